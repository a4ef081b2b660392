-- +goose Up
CREATE INDEX idx_composite_status_created ON messages (status, created_at);
