-- The log's tables. A record is a batch of events in columns; `seq` is the number of its first event.
CREATE TABLE tidegate_record (
    seq   bigint  NOT NULL PRIMARY KEY,
    count integer NOT NULL CHECK (count > 0),
    at_ms bigint  NOT NULL,
    body  bytea   NOT NULL
) PARTITION BY RANGE (seq);

-- Columns are packed already: compressing them again costs time and saves nothing.
ALTER TABLE tidegate_record ALTER COLUMN body SET STORAGE EXTERNAL;

-- One row: who may write, and how far the log goes. Every append moves `last` on, in the same transaction.
CREATE TABLE tidegate_writer (
    one   boolean     PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint      NOT NULL,
    last  bigint      NOT NULL,
    since timestamptz NOT NULL
);

INSERT INTO tidegate_writer (epoch, last, since) VALUES (0, 0, now());

CREATE FUNCTION tidegate_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the log is append-only'; END $$;

CREATE TRIGGER tidegate_record_is_final BEFORE UPDATE OR DELETE ON tidegate_record
    FOR EACH ROW EXECUTE FUNCTION tidegate_append_only();

CREATE TRIGGER tidegate_record_stays BEFORE TRUNCATE ON tidegate_record
    FOR EACH STATEMENT EXECUTE FUNCTION tidegate_append_only();
