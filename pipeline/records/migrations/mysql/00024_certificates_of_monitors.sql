-- +goose Up
ALTER TABLE certificates MODIFY role ENUM('client','proxy','worker','admin','server','monitor') NOT NULL;
