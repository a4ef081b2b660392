-- +goose Up
CREATE TABLE message_minutes (
  minute INTEGER NOT NULL,
  server VARCHAR(32) NOT NULL COLLATE BINARY,
  accepted INTEGER NOT NULL,
  delivered INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  waiting INTEGER,
  dead INTEGER,
  PRIMARY KEY (minute, server)
) WITHOUT ROWID;
