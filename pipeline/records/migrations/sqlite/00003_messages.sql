-- +goose Up
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  message_id VARCHAR(36) NOT NULL COLLATE BINARY,
  client_id VARCHAR(255) NOT NULL COLLATE BINARY REFERENCES clients (client_id) ON DELETE RESTRICT ON UPDATE CASCADE,
  client_key VARCHAR(255) NULL COLLATE BINARY,
  sender_number_hashed VARCHAR(64) NOT NULL COLLATE BINARY,
  phone_key_id SMALLINT NOT NULL DEFAULT 0,
  sender_number_enc TEXT NULL,
  encrypted_body TEXT NOT NULL,
  encryption_key_version SMALLINT NOT NULL DEFAULT 1,
  scope_key_id INTEGER NULL,
  sealed TINYINT NOT NULL DEFAULT 0,
  status VARCHAR(10) NOT NULL DEFAULT 'queued' CHECK (status IN ('queued','processing','delivered','failed')),
  domain VARCHAR(255) NOT NULL COLLATE BINARY DEFAULT 'default',
  attempt_count INTEGER NOT NULL DEFAULT 0,
  error_message VARCHAR(500) NULL,
  created_at INTEGER NOT NULL,
  queued_at INTEGER NOT NULL,
  delivered_at INTEGER NULL,
  last_attempt_at INTEGER NULL,
  metadata TEXT NULL,
  worker_id VARCHAR(100) NULL COLLATE BINARY
);
