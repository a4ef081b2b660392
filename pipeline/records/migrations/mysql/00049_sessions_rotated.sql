-- +goose Up
SET @add_column = IF(EXISTS (SELECT 1 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'user_sessions' AND column_name = 'rotated_at'),
  'DO 0', 'ALTER TABLE user_sessions ADD COLUMN rotated_at DATETIME(6) NULL');
PREPARE add_column FROM @add_column;
EXECUTE add_column;
DEALLOCATE PREPARE add_column;
