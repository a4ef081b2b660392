-- +goose Up
CREATE TABLE message_counts (
  client_id VARCHAR(255) NOT NULL COLLATE BINARY,
  hour INTEGER NOT NULL,
  domain VARCHAR(255) NOT NULL COLLATE BINARY,
  status VARCHAR(10) NOT NULL,
  messages INTEGER NOT NULL,
  delivery_us INTEGER NOT NULL,
  PRIMARY KEY (client_id, hour, domain, status)
) WITHOUT ROWID;
