-- +goose Up
DROP TABLE certificates;
