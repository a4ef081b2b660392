-- +goose Up
CREATE TABLE IF NOT EXISTS enrolments (
  id VARCHAR(16) NOT NULL,
  kind VARCHAR(10) NOT NULL,
  secret_hash VARCHAR(64) NOT NULL DEFAULT '',
  fingerprint VARCHAR(64) NOT NULL DEFAULT '',
  client_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  role VARCHAR(10) NOT NULL,
  domain VARCHAR(255) NOT NULL,
  hosts TEXT NOT NULL,
  lifetime BIGINT NOT NULL,
  created_by VARCHAR(255) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  expires_at DATETIME(6) NOT NULL,
  revoked_at DATETIME(6) NULL,
  used_at DATETIME(6) NULL,
  failures INT NOT NULL DEFAULT 0,
  key_hash VARCHAR(64) NOT NULL DEFAULT '',
  certificate TEXT NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
