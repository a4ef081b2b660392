-- +goose Up
INSERT INTO certificates_with_monitors SELECT * FROM certificates;
