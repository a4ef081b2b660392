-- +goose Up
CREATE INDEX idx_certificates_serial ON certificates (serial);
