-- +goose Up
CREATE TABLE IF NOT EXISTS scope_keys (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  client_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  key_version SMALLINT NOT NULL,
  wrapped_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY idx_client_version (client_id, key_version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
