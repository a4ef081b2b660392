-- +goose Up
CREATE TABLE enrolments (
  id VARCHAR(16) NOT NULL PRIMARY KEY,
  kind VARCHAR(10) NOT NULL,
  secret_hash VARCHAR(64) NOT NULL DEFAULT '',
  fingerprint VARCHAR(64) NOT NULL DEFAULT '',
  client_id VARCHAR(255) NOT NULL COLLATE BINARY,
  role VARCHAR(10) NOT NULL,
  domain VARCHAR(255) NOT NULL,
  hosts TEXT NOT NULL,
  lifetime BIGINT NOT NULL,
  created_by VARCHAR(255) NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER NULL,
  used_at INTEGER NULL,
  failures INTEGER NOT NULL DEFAULT 0,
  key_hash VARCHAR(64) NOT NULL DEFAULT '',
  certificate TEXT NOT NULL
);
