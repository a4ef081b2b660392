-- +goose Up
CREATE TABLE IF NOT EXISTS audit_log (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  event_type VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  user_id INT UNSIGNED NULL,
  client_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  ip_address VARCHAR(45) CHARACTER SET ascii COLLATE ascii_bin NULL,
  event_data TEXT NULL,
  severity ENUM('info','warning','error','critical') NOT NULL DEFAULT 'info',
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (id),
  KEY idx_event_type (event_type),
  KEY idx_user_id (user_id),
  KEY idx_client_id (client_id),
  KEY idx_severity (severity),
  KEY idx_created_at (created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
