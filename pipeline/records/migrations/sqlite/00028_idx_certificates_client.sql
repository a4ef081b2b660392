-- +goose Up
CREATE INDEX idx_certificates_client_id ON certificates (client_id);
