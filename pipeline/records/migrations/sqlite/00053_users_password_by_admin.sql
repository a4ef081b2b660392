-- +goose Up
ALTER TABLE users ADD COLUMN password_by_admin INTEGER NOT NULL DEFAULT 0;
