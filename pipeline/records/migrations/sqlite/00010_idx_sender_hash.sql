-- +goose Up
CREATE INDEX idx_sender_hash ON messages (sender_number_hashed, created_at);
