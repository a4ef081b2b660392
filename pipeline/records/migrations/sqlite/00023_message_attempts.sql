-- +goose Up
CREATE TABLE message_attempts (
  message INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
  at INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  event VARCHAR(10) NOT NULL CHECK (event IN ('failed','given_up','requeued')),
  error_message VARCHAR(500) NULL,
  worker_id VARCHAR(100) NULL COLLATE BINARY,
  PRIMARY KEY (message, at, attempt)
) WITHOUT ROWID;
