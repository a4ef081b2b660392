-- +goose Up
CREATE INDEX idx_message_id ON messages (message_id);
