-- +goose Up
CREATE INDEX idx_audit_client_id ON audit_log (client_id);
