-- +goose Up
CREATE TABLE IF NOT EXISTS message_minutes (
  minute BIGINT NOT NULL,
  server VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  accepted BIGINT NOT NULL,
  delivered BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  waiting BIGINT,
  dead BIGINT,
  PRIMARY KEY (minute, server)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
