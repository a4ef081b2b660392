-- +goose Up
CREATE TABLE revocations (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  authority VARCHAR(80) NOT NULL COLLATE BINARY,
  digest VARCHAR(64) NOT NULL COLLATE BINARY,
  entry TEXT NOT NULL,
  UNIQUE (authority, digest)
);
