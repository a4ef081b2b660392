-- +goose Up
CREATE TABLE IF NOT EXISTS certificates (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  client_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  serial VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  fingerprint CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  subject VARCHAR(500) NOT NULL,
  role ENUM('client','proxy','worker','admin','server') NOT NULL,
  status ENUM('active','revoked','expired','superseded') NOT NULL,
  not_before DATETIME(6) NOT NULL,
  not_after DATETIME(6) NOT NULL,
  revoked_at DATETIME(6) NULL,
  revocation_reason VARCHAR(500) NULL,
  issued_by INT UNSIGNED NULL,
  source ENUM('api','cli','seen') NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY idx_fingerprint (fingerprint),
  KEY idx_serial (serial),
  KEY idx_client_id (client_id),
  KEY idx_not_after (not_after)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
