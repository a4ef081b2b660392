-- +goose Up
CREATE INDEX idx_client_key ON messages (client_key) WHERE client_key IS NOT NULL;
