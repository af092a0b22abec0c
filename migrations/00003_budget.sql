-- +goose Up

-- One row: what all replicas know together about LeadGrid's rate limit, and how far ahead its tokens are leased.
-- state is sync/budget's State, as json and not jsonb: it keeps the order of the fields, steady ones first, so that an
-- update logs only the end of the row. version counts the updates: a replica writes only over what it has read.
CREATE TABLE sync_budget (
    id      smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    state   json     NOT NULL DEFAULT '{}',
    version bigint   NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

INSERT INTO sync_budget DEFAULT VALUES;

-- +goose Down

DROP TABLE sync_budget;
