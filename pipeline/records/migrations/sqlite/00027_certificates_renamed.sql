-- +goose Up
ALTER TABLE certificates_with_monitors RENAME TO certificates;
