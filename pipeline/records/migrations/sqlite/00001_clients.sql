-- +goose Up
CREATE TABLE clients (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  client_id VARCHAR(255) NOT NULL COLLATE BINARY UNIQUE,
  cert_fingerprint VARCHAR(300) NOT NULL COLLATE BINARY UNIQUE,
  domain VARCHAR(255) NOT NULL COLLATE BINARY DEFAULT 'default',
  status VARCHAR(10) NOT NULL DEFAULT 'active' CHECK (status IN ('active','revoked','expired')),
  issued_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER NULL,
  revocation_reason VARCHAR(500) NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
