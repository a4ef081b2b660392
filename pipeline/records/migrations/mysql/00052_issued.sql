-- +goose Up
CREATE TABLE IF NOT EXISTS issued (
  authority VARCHAR(80) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  number BIGINT NOT NULL,
  serial VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  entry TEXT NOT NULL,
  PRIMARY KEY (authority, number),
  UNIQUE KEY uq_issued (authority, serial)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
