-- +goose Up
CREATE UNIQUE INDEX idx_client_message ON messages (client_id, message_id);
