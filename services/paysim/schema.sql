CREATE TABLE IF NOT EXISTS object (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    created INTEGER NOT NULL,
    f1 TEXT, f2 TEXT, f3 TEXT, f4 TEXT,
    doc BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS object_by_age ON object (created) WHERE kind = 'event';
CREATE INDEX IF NOT EXISTS object_by_time ON object (kind, account, created, seq);
CREATE INDEX IF NOT EXISTS object_by_f1 ON object (kind, f1, created, seq) WHERE f1 IS NOT NULL;
CREATE INDEX IF NOT EXISTS object_by_f2 ON object (kind, f2, created, seq) WHERE f2 IS NOT NULL;
CREATE INDEX IF NOT EXISTS object_by_f3 ON object (kind, f3, created, seq) WHERE f3 IS NOT NULL;

CREATE TABLE IF NOT EXISTS idempotency (
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    path TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    headers BLOB NOT NULL,
    body BLOB NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_by_age ON idempotency (created);

CREATE TABLE IF NOT EXISTS due (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS due_by_time ON due (at, seq);

CREATE TABLE IF NOT EXISTS posting (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    memo TEXT NOT NULL,
    created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS entry (
    posting INTEGER NOT NULL,
    leg INTEGER NOT NULL,
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (posting, leg)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS book (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (account, currency)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL,
    last_answer TEXT
);
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (due_at) WHERE state = 'due';
CREATE INDEX IF NOT EXISTS delivery_by_event ON delivery (event);

CREATE TABLE IF NOT EXISTS fault (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    remaining INTEGER,
    fired INTEGER NOT NULL DEFAULT 0,
    match BLOB NOT NULL,
    options BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
