-- +goose Up
SET @add_column = IF(EXISTS (SELECT 1 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'users' AND column_name = 'password_by_admin'),
  'DO 0', 'ALTER TABLE users ADD COLUMN password_by_admin BOOLEAN NOT NULL DEFAULT FALSE');
PREPARE add_column FROM @add_column;
EXECUTE add_column;
DEALLOCATE PREPARE add_column;
