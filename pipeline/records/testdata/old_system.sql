-- A database of the earlier Python system. The texts were encrypted with the key that is URL-safe
-- base64 of the bytes 0 to 31, the numbers hashed with the salt "old-salt".
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('001');
CREATE TABLE users (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(255) NOT NULL,
  password_hash VARCHAR(255) NOT NULL,
  role ENUM('user','admin') NOT NULL DEFAULT 'user',
  client_id VARCHAR(255) NULL,
  is_active BOOLEAN NOT NULL DEFAULT TRUE,
  last_login DATETIME NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  UNIQUE KEY idx_email (email),
  KEY idx_role (role),
  KEY idx_client_id (client_id),
  KEY idx_is_active (is_active)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
CREATE TABLE clients (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  client_id VARCHAR(255) NOT NULL,
  cert_fingerprint VARCHAR(255) NOT NULL,
  domain VARCHAR(255) NOT NULL DEFAULT 'default',
  status ENUM('active','revoked','expired') NOT NULL DEFAULT 'active',
  issued_at DATETIME NOT NULL,
  expires_at DATETIME NOT NULL,
  revoked_at DATETIME NULL,
  revocation_reason VARCHAR(500) NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  UNIQUE KEY idx_client_id (client_id),
  UNIQUE KEY idx_cert_fingerprint (cert_fingerprint),
  KEY idx_domain (domain),
  KEY idx_status (status),
  KEY idx_expires_at (expires_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
CREATE TABLE messages (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  message_id VARCHAR(36) NOT NULL,
  client_id VARCHAR(255) NOT NULL,
  sender_number_hashed VARCHAR(64) NOT NULL,
  encrypted_body TEXT NOT NULL,
  encryption_key_version SMALLINT NOT NULL DEFAULT 1,
  status ENUM('queued','processing','delivered','failed') NOT NULL DEFAULT 'queued',
  domain VARCHAR(255) NOT NULL DEFAULT 'default',
  attempt_count INT UNSIGNED NOT NULL DEFAULT 0,
  error_message VARCHAR(500) NULL,
  created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  delivered_at DATETIME(6) NULL,
  last_attempt_at DATETIME(6) NULL,
  UNIQUE KEY idx_message_id (message_id),
  KEY idx_client_id (client_id),
  KEY idx_sender_hash (sender_number_hashed),
  KEY idx_status (status),
  KEY idx_domain (domain),
  KEY idx_created_at (created_at),
  KEY idx_delivered_at (delivered_at),
  KEY idx_composite_status_created (status, created_at),
  KEY idx_composite_client_created (client_id, created_at),
  KEY idx_messages_portal_query (client_id, status, created_at),
  KEY idx_messages_worker_query (status, attempt_count, queued_at),
  CONSTRAINT fk_messages_client FOREIGN KEY (client_id) REFERENCES clients (client_id) ON DELETE RESTRICT ON UPDATE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
CREATE TABLE audit_log (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_type VARCHAR(50) NOT NULL,
  user_id INT UNSIGNED NULL,
  client_id VARCHAR(255) NULL,
  ip_address VARCHAR(45) NULL,
  event_data JSON NULL,
  severity ENUM('info','warning','error','critical') NOT NULL DEFAULT 'info',
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  KEY idx_event_type (event_type),
  KEY idx_user_id (user_id),
  KEY idx_client_id (client_id),
  KEY idx_severity (severity),
  KEY idx_created_at (created_at),
  CONSTRAINT fk_audit_user FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL ON UPDATE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
CREATE TABLE password_resets (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id INT UNSIGNED NOT NULL,
  token VARCHAR(255) NOT NULL,
  expires_at DATETIME NOT NULL,
  used_at DATETIME NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  UNIQUE KEY idx_token (token),
  KEY idx_user_id (user_id),
  KEY idx_expires_at (expires_at),
  CONSTRAINT fk_password_resets_user FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
CREATE VIEW v_active_messages AS SELECT message_id, client_id, status FROM messages WHERE status IN ('queued', 'processing');
INSERT INTO users (email, password_hash, role, client_id, is_active, last_login, created_at, updated_at) VALUES
  ('Admin@Example.com', '$2b$04$LcEb08gcXdbqA/EPPAjaAOFlzZc.C4gugE16pw6UAWpuwfpY14hdy', 'admin', NULL, TRUE, '2025-06-01 09:00:00', '2025-01-01 00:00:00', '2025-01-01 00:00:00'),
  ('anna@example.com', '$2y$04$WEPTE0hduybhh0H3b0YMPOmc1dgDtQJusIVNWdLTSsv7RJVtXGY32', 'user', 'ACME-01', TRUE, NULL, '2025-01-02 00:00:00', '2025-01-02 00:00:00'),
  ('bob@example.com', '$2a$04$480GrV4nAHcuwyU9JG5HSOXMsT4acustYy1n4txuqOTUV08ewZO4m', 'user', NULL, FALSE, NULL, '2025-01-03 00:00:00', '2025-01-03 00:00:00');
INSERT INTO clients (client_id, cert_fingerprint, domain, status, issued_at, expires_at, revoked_at, created_at, updated_at) VALUES
  ('acme-01', 'AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99', 'default', 'active', '2025-01-01 00:00:00', '2035-01-01 00:00:00', NULL, '2025-01-01 00:00:00', '2025-01-01 00:00:00'),
  ('blank ', '', 'default', 'active', '2025-01-01 00:00:00', '2035-01-01 00:00:00', NULL, '2025-01-01 00:00:00', '2025-01-01 00:00:00'),
  ('stolen', 'ccddccddccddccddccddccddccddccddccddccddccddccddccddccddccddccdd', 'lab', 'revoked', '2025-01-01 00:00:00', '2035-01-01 00:00:00', '2025-05-05 05:05:05', '2025-01-01 00:00:00', '2025-05-05 05:05:05');
INSERT INTO messages (message_id, client_id, sender_number_hashed, encrypted_body, status, domain, attempt_count, error_message, created_at, queued_at, delivered_at) VALUES
  ('11111111-1111-4111-8111-111111111111', 'acme-01', 'a0900ec0e98c571f8d30e23e013782285a7ebd20f51cecf53461e6c1f03a1c1f',
   'Z0FBQUFBQmxVX0VBYTNkVll4YXFmcWNiYWt4d0dkVEpmSXJkZ2RFcXBFOFphUGpiNFQxMFExUHBtdE5SRTg0WTJLYTB2aENpU1R0QjhSbWdFc3dJQXdoNGkzUERYbHRyalY0QUVuRHFUNFdXTG8zWXNVZVR5bHM9', 'delivered', 'default', 1, NULL, '2025-03-01 08:15:30.789012', '2025-03-01 08:15:30.789012', '2025-03-01 08:15:32.789012'),
  ('22222222-2222-4222-8222-222222222222', 'ACME-01', '3c8162d43984cefd45128f1cb398a0c5d6bd7acf10c558cbba084f6bc8a39964',
   'Z0FBQUFBQmxVX0VBYTNkVll4YXFmcWNiYWt4d0dkVEpmSXJkZ2RFcXBFOFphUGpiNFQxMFExUHBtdE5SRTg0WTJLYTB2aENpU1R0QjhSbWdFc3dJQXdoNGkzUERYbHRyalY0QUVuRHFUNFdXTG8zWXNVZVR5bHM9', 'queued', 'default', 0, NULL, '2025-03-01 08:16:00', '2025-03-01 08:16:00', NULL),
  ('33333333-3333-4333-8333-333333333333', 'blank', '01ba967eb556a9e23900fadf0825aada54eb7ef01e0d5c90c7b402780bf959e7',
   'gAAAAABlU_EAa3dVYxaqfqcbakxwGdTJfIrdgdEqpE8ZaPjb4T10Q1PpmtNRE84Y2Ka0vhCiSTtB8RmgEswIAwh4i3PDXltrjV4AEnDqT4WWLo3YsUeTyls=', 'failed', 'lab', 9, 'gave up', '2025-04-01 00:00:00', '2025-04-01 00:00:00', NULL),
  ('44444444-4444-4444-8444-444444444444', 'stolen', '2b567583f444b8875f4daa3acd7406191729665e8580422702a622e2c4eb61e0', 'a damaged text', 'delivered', 'lab', 1, NULL, '2025-04-02 00:00:00', '2025-04-02 00:00:00', '2025-04-02 00:00:01');
INSERT INTO audit_log (event_type, user_id, client_id, ip_address, event_data, severity, created_at) VALUES
  ('user_login', 1, NULL, '192.0.2.1', '{"ok": true}', 'info', '2025-06-01 09:00:00'),
  ('certificate_revoked', 1, 'stolen', NULL, NULL, 'warning', '2025-05-05 05:05:05');
INSERT INTO password_resets (user_id, token, expires_at, created_at) VALUES (2, 'a-token-in-clear', '2025-06-02 00:00:00', '2025-06-01 00:00:00');
CREATE TRIGGER trg_user_login AFTER UPDATE ON users FOR EACH ROW INSERT INTO audit_log (event_type, user_id) VALUES ('user_updated', NEW.id);
