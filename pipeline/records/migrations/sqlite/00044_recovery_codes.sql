-- +goose Up
CREATE TABLE recovery_codes (
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  code_hash CHAR(64) NOT NULL COLLATE BINARY,
  PRIMARY KEY (user_id, code_hash)
);
