-- Written in the transaction of the work it tells of, so that a killed replay goes on exactly where it was.
CREATE TABLE replay_progress (
    source varchar NOT NULL,
    digest varchar NOT NULL,
    stage varchar NOT NULL,
    position integer NOT NULL,
    clock_at timestamptz,
    elapsed_ms bigint NOT NULL,
    CONSTRAINT pk_replay_progress PRIMARY KEY (source)
);
CALL protect_platform_rows('replay_progress');

CREATE TABLE replay_files (
    source varchar NOT NULL,
    file varchar NOT NULL,
    rows integer NOT NULL,
    CONSTRAINT pk_replay_files PRIMARY KEY (source, file)
);
CALL protect_platform_rows('replay_files');
