-- +goose Up

-- Which mapping `worker migrate` applied last. A program with another one, not restarted yet, must not write what this one
-- leaves out: a worker then writes no row, and a receiver of an event only its id, type and times.
CREATE TABLE sync_mapping (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    digest     text NOT NULL,
    applied_at timestamptz
);
COMMENT ON COLUMN sync_mapping.digest IS 'of what the mapping changes; empty for the default';
COMMENT ON COLUMN sync_mapping.applied_at IS 'null until what was there before follows it too';
INSERT INTO sync_mapping (digest, applied_at) VALUES ('', now());
