-- +goose Up
CREATE INDEX idx_audit_event_type ON audit_log (event_type);
