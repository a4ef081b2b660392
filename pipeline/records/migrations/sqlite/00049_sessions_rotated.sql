-- +goose Up
ALTER TABLE user_sessions ADD COLUMN rotated_at INTEGER NULL;
