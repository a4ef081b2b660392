-- +goose Up
SET @add_column = IF(EXISTS (SELECT 1 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'messages' AND column_name = 'proxy_id'),
  'DO 0', 'ALTER TABLE messages ADD COLUMN proxy_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL');
PREPARE add_column FROM @add_column;
EXECUTE add_column;
DEALLOCATE PREPARE add_column;
