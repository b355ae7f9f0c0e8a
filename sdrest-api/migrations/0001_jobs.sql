-- Jobs, their owners and their pictures. Times are milliseconds since 1970; ids are hyphenated UUIDs.

CREATE TABLE owners (
    id      INTEGER PRIMARY KEY,       -- the share that a worker knows the owner by
    subject TEXT    NOT NULL UNIQUE,
    served  INTEGER NOT NULL DEFAULT 0 -- cost charged so far: rows x pixels x steps
) STRICT;

-- One row. The virtual time of start-time fair queueing (Goyal, Vin, Cheng 1996): what the owner served last
-- had been charged before. Whoever comes back after a rest starts here.
CREATE TABLE fairness (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    virtual_time INTEGER NOT NULL
) STRICT;
INSERT INTO fairness (only, virtual_time) VALUES (1, 0);

CREATE TABLE jobs (
    arrival         INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    owner           INTEGER NOT NULL REFERENCES owners (id),
    owner_name      TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    request         TEXT    NOT NULL,  -- JSON
    request_id      TEXT    NOT NULL,
    model           TEXT    NOT NULL,
    seed            INTEGER NOT NULL,
    cost            INTEGER NOT NULL,
    attempt         INTEGER NOT NULL DEFAULT 0, -- the fencing number: only the newest may record a result
    worker_deaths   INTEGER NOT NULL DEFAULT 0, -- while it was in a slot
    death_step      INTEGER,                    -- how far it was at the last of them
    deaths_there    INTEGER NOT NULL DEFAULT 0, -- how many of them in a row came at that step
    profile         TEXT,
    created         INTEGER NOT NULL,
    started         INTEGER,
    ended           INTEGER,
    error_code      TEXT,
    error_message   TEXT,
    idempotency_key TEXT,
    body_sha256     BLOB
) STRICT;
CREATE INDEX jobs_waiting ON jobs (owner, arrival) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
CREATE INDEX jobs_of_owner ON jobs (owner, state, arrival);
CREATE UNIQUE INDEX jobs_keys ON jobs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE images (
    id       TEXT    PRIMARY KEY,
    job      TEXT    NOT NULL REFERENCES jobs (id),
    owner    INTEGER NOT NULL REFERENCES owners (id),
    attempt  INTEGER NOT NULL,
    place    INTEGER NOT NULL, -- index within the job
    seed     INTEGER NOT NULL,
    width    INTEGER NOT NULL,
    height   INTEGER NOT NULL,
    sha256   TEXT    NOT NULL,
    blob_key TEXT    NOT NULL UNIQUE,
    bytes    INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    UNIQUE (job, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX images_of_owner ON images (owner, id);
CREATE INDEX images_by_sha256 ON images (sha256);
