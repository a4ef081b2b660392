-- +goose Up
CREATE INDEX idx_audit_user_id ON audit_log (user_id);
