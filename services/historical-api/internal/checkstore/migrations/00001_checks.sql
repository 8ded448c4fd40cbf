-- What scheduled checks have found and what is to be told of it. Nothing of it can be made again from elsewhere but by checking again.

-- +goose Up
CREATE TABLE check_store (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL,   -- random: another store is another sequence of alerts
    next_seq       BIGINT NOT NULL, -- of the outbox
    published_next BIGINT NOT NULL  -- alerts before it are in Kafka
);
CREATE TABLE check_lease (
    name   TEXT PRIMARY KEY,
    token  BIGINT NOT NULL, -- grows with every change of hands
    holder TEXT NOT NULL,
    beats  BIGINT NOT NULL  -- grows while the holder lives
);
CREATE TABLE check_jobs (
    name        TEXT PRIMARY KEY,
    begun_ms    BIGINT NOT NULL,  -- hours before it are nobody's news
    done_ms     BIGINT NOT NULL,  -- the last slot that was run, or was skipped
    judged_ms   BIGINT NOT NULL,  -- hours before it have been judged
    skipped     BIGINT NOT NULL,  -- slots that were too long ago
    started_ms  BIGINT NOT NULL,  -- of the last attempt
    finished_ms BIGINT NOT NULL,
    ok_ms       BIGINT NOT NULL,  -- end of the last that went well
    failures    BIGINT NOT NULL,  -- in a row
    problem     TEXT NOT NULL,
    summary     TEXT NOT NULL     -- JSON, of the last that went well
);
CREATE TABLE check_findings (
    id         TEXT PRIMARY KEY,
    job        TEXT NOT NULL,
    entity     TEXT NOT NULL,
    metric     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    severity   TEXT NOT NULL,
    from_ms    BIGINT NOT NULL,
    to_ms      BIGINT NOT NULL,
    found_ms   BIGINT NOT NULL, -- the slot that found it
    alert      TEXT NOT NULL,   -- '', 'open', 'ended'
    alerted_ms BIGINT NOT NULL, -- by the clock
    is_over    INTEGER NOT NULL,
    body       TEXT NOT NULL    -- JSON
);
CREATE INDEX check_findings_metric ON check_findings (metric, from_ms);
CREATE INDEX check_findings_time ON check_findings (from_ms, id);
CREATE INDEX check_findings_job ON check_findings (job, to_ms);
CREATE INDEX check_findings_alert ON check_findings (alert);
CREATE TABLE check_outbox (
    seq    BIGINT PRIMARY KEY,
    entity TEXT NOT NULL,
    name   TEXT NOT NULL,
    body   BYTEA NOT NULL
);
