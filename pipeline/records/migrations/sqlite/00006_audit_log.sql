-- +goose Up
CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  event_type VARCHAR(50) NOT NULL COLLATE BINARY,
  user_id INTEGER NULL,
  client_id VARCHAR(255) NULL COLLATE BINARY,
  ip_address VARCHAR(45) NULL,
  event_data TEXT NULL,
  severity VARCHAR(10) NOT NULL DEFAULT 'info' CHECK (severity IN ('info','warning','error','critical')),
  created_at INTEGER NOT NULL
);
