-- +goose Up
CREATE TABLE IF NOT EXISTS message_attempts (
  message BIGINT UNSIGNED NOT NULL,
  at DATETIME(6) NOT NULL,
  attempt INT UNSIGNED NOT NULL,
  event ENUM('failed','given_up','requeued') NOT NULL,
  error_message VARCHAR(500) NULL,
  worker_id VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  PRIMARY KEY (message, at, attempt),
  CONSTRAINT fk_attempts_message FOREIGN KEY (message) REFERENCES messages (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
