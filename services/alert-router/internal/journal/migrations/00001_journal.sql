-- The same statements for PostgreSQL and SQLite. Times: _ms and _us since 1970 UTC; _ms is the broker's time, _us the machine's.

-- +goose Up
CREATE TABLE alert_transitions (
    id            TEXT PRIMARY KEY,
    alert_id      TEXT NOT NULL,
    equipment_id  TEXT NOT NULL,
    cause         TEXT NOT NULL,
    gateway_id    TEXT NOT NULL,
    transition    TEXT NOT NULL,
    severity      INTEGER NOT NULL,
    state         TEXT NOT NULL,
    at_ms         BIGINT NOT NULL,
    actor         TEXT NOT NULL,
    comment       TEXT NOT NULL,
    until_ms      BIGINT NOT NULL,
    verdict       INTEGER NOT NULL,
    score         DOUBLE PRECISION NOT NULL,
    summary       TEXT NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset    BIGINT NOT NULL,
    seq           BIGINT NOT NULL
);
CREATE INDEX alert_transitions_time ON alert_transitions (at_ms, seq);
CREATE INDEX alert_transitions_alert ON alert_transitions (alert_id, at_ms);
CREATE INDEX alert_transitions_machine ON alert_transitions (equipment_id, at_ms);

CREATE TABLE alerts (
    alert_id      TEXT PRIMARY KEY,
    equipment_id  TEXT NOT NULL,
    cause         TEXT NOT NULL,
    gateway_id    TEXT NOT NULL,
    severity      INTEGER NOT NULL,
    state         TEXT NOT NULL,
    opened_ms     BIGINT NOT NULL,
    closed_ms     BIGINT NOT NULL,
    acked_ms      BIGINT NOT NULL,
    acked_by      TEXT NOT NULL,
    verdict       INTEGER NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset    BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX alerts_time ON alerts (opened_ms, alert_id);
CREATE INDEX alerts_machine ON alerts (equipment_id, opened_ms);
CREATE INDEX alerts_closed ON alerts (closed_ms);

CREATE TABLE alert_sensors (
    alert_id TEXT NOT NULL,
    sensor   TEXT NOT NULL,
    share    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (alert_id, sensor)
);
CREATE INDEX alert_sensors_sensor ON alert_sensors (sensor);

CREATE TABLE alarms (
    equipment_id  TEXT NOT NULL,
    cause         TEXT NOT NULL,
    log_partition INTEGER NOT NULL,
    log_offset    BIGINT NOT NULL,
    body          TEXT NOT NULL,
    PRIMARY KEY (equipment_id, cause)
);

CREATE TABLE log_positions (
    log_partition INTEGER PRIMARY KEY,
    next_offset   BIGINT NOT NULL
);

CREATE TABLE alert_notifications (
    id           TEXT PRIMARY KEY,
    message_key  TEXT NOT NULL,
    alert_id     TEXT NOT NULL,
    equipment_id TEXT NOT NULL,
    receiver     TEXT NOT NULL,
    integration  TEXT NOT NULL,
    status       TEXT NOT NULL,
    reason       TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    at_ms        BIGINT NOT NULL,
    latency_ms   BIGINT NOT NULL,
    error        TEXT NOT NULL,
    instance     TEXT NOT NULL
);
CREATE INDEX alert_notifications_time ON alert_notifications (at_ms);
CREATE INDEX alert_notifications_alert ON alert_notifications (alert_id, at_ms);

-- +goose Down
DROP TABLE alert_notifications;
DROP TABLE log_positions;
DROP TABLE alarms;
DROP TABLE alert_sensors;
DROP TABLE alerts;
DROP TABLE alert_transitions;
