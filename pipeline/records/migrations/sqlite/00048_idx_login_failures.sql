-- +goose Up
CREATE INDEX idx_login_failures_first_at ON login_failures (first_at);
