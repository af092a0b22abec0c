-- +goose Up

-- Whether a finished command has been held to the mapping: it must keep what was sent until the last read has confirmed it.
ALTER TABLE commands ADD COLUMN mapped boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN commands.mapped IS 'it is over, and what it said obeys the mapping; only where that keeps something out';
CREATE INDEX commands_unmapped ON commands (number) WHERE NOT mapped AND state IN ('done', 'refused') AND confirms = 0;
