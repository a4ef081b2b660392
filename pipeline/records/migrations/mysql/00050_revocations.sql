-- +goose Up
CREATE TABLE IF NOT EXISTS revocations (
  number BIGINT NOT NULL AUTO_INCREMENT,
  authority VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  digest VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  entry TEXT NOT NULL,
  PRIMARY KEY (number),
  UNIQUE KEY uq_revocations (authority, digest)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
