-- +goose Up
CREATE INDEX idx_user_sessions_user_id ON user_sessions (user_id);
