-- +goose Up
CREATE INDEX idx_audit_created_at ON audit_log (created_at);
