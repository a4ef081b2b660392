-- +goose Up
CREATE TABLE IF NOT EXISTS message_counts (
  client_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  hour BIGINT NOT NULL,
  domain VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  status ENUM('queued','processing','delivered','failed') NOT NULL,
  messages BIGINT NOT NULL,
  delivery_us BIGINT NOT NULL,
  PRIMARY KEY (client_id, hour, domain, status)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
