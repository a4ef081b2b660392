-- +goose Up
CREATE INDEX idx_messages_portal_query ON messages (client_id, status, created_at);
