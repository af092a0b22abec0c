-- +goose Up

-- What all replicas know together about LeadGrid's rate limit, and which tokens they hold: one row, sync/budget's State.
-- version counts the updates: a replica writes only over what it has read. The row changes with nearly every lease, so
-- it is not logged; after a crash of the server it is made again from the copy below, which is written with every block
-- and otherwise once in a while.
CREATE UNLOGGED TABLE sync_budget (
    id      smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    state   json     NOT NULL,
    version bigint   NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE sync_budget_kept (
    id      smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    state   json     NOT NULL DEFAULT '{}'
);

INSERT INTO sync_budget_kept DEFAULT VALUES;

-- +goose Down

DROP TABLE sync_budget, sync_budget_kept;
