-- +goose Up
CREATE TABLE scope_keys (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  client_id VARCHAR(255) NOT NULL COLLATE BINARY,
  key_version SMALLINT NOT NULL,
  wrapped_key VARCHAR(255) NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (client_id, key_version)
);
