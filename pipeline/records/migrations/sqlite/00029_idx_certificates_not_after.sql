-- +goose Up
CREATE INDEX idx_certificates_not_after ON certificates (not_after);
