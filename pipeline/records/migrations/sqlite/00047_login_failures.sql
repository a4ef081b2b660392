-- +goose Up
CREATE TABLE login_failures (
  email VARCHAR(255) NOT NULL COLLATE BINARY PRIMARY KEY,
  failures INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  locked_until INTEGER NULL
);
