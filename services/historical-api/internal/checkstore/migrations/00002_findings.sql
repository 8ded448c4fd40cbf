-- What waits are alerts and, from here on, findings for the lake's table too.

-- +goose Up
ALTER TABLE check_outbox ADD COLUMN kind TEXT NOT NULL DEFAULT 'alert';
