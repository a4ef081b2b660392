-- +goose Up
CREATE TABLE certificates_with_monitors (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  client_id VARCHAR(255) NOT NULL COLLATE BINARY,
  serial VARCHAR(64) NOT NULL COLLATE BINARY,
  fingerprint CHAR(64) NOT NULL COLLATE BINARY UNIQUE,
  subject VARCHAR(500) NOT NULL,
  role VARCHAR(10) NOT NULL CHECK (role IN ('client','proxy','worker','admin','server','monitor')),
  status VARCHAR(10) NOT NULL CHECK (status IN ('active','revoked','expired','superseded')),
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  revoked_at INTEGER NULL,
  revocation_reason VARCHAR(500) NULL,
  issued_by INTEGER NULL,
  source VARCHAR(10) NOT NULL CHECK (source IN ('api','cli','seen')),
  created_at INTEGER NOT NULL
);
