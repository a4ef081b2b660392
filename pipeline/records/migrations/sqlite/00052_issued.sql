-- +goose Up
CREATE TABLE issued (
  authority VARCHAR(80) NOT NULL COLLATE BINARY,
  number BIGINT NOT NULL,
  serial VARCHAR(64) NOT NULL COLLATE BINARY,
  entry TEXT NOT NULL,
  PRIMARY KEY (authority, number),
  UNIQUE (authority, serial)
);
