-- Browsers and phones that have subscribed to pages. Not derived: what is lost here is subscribed to again.

-- +goose Up
CREATE TABLE push_subscriptions (
    id         TEXT PRIMARY KEY,
    person     TEXT NOT NULL,
    receiver   TEXT NOT NULL,
    endpoint   TEXT NOT NULL,
    p256dh     TEXT NOT NULL,
    auth       TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX push_subscriptions_receiver ON push_subscriptions (receiver, created_ms);
