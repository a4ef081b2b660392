-- +goose Up
CREATE INDEX idx_domain ON messages (domain, status, created_at);
