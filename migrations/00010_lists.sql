-- +goose Up

-- What a full sweep adds to the ledger of complete reads: one row for a stretch of dossiers, in the order of their ids, instead
-- of one in sync_reads for each. A sweep replaces the rows of the sweeps before it as it goes.
CREATE TABLE sync_lists (
    kind        text NOT NULL,
    first       text NOT NULL,
    last        text NOT NULL,
    sweep       bigint NOT NULL,
    observation bigint NOT NULL,
    began_at    timestamptz NOT NULL,
    keys        bigint[] NOT NULL,
    behind      integer[] NOT NULL,
    PRIMARY KEY (kind, last)
);
COMMENT ON COLUMN sync_lists.kind IS 'as in sync_reads';
COMMENT ON COLUMN sync_lists.first IS 'the first id in it';
COMMENT ON COLUMN sync_lists.last IS 'the id up to which the stretch reaches, from the last of the row before';
COMMENT ON COLUMN sync_lists.observation IS 'the last of the reads';
COMMENT ON COLUMN sync_lists.began_at IS 'when the first of the reads began';
COMMENT ON COLUMN sync_lists.keys IS 'hashtextextended of the ids whose lists were read; one that is not here was not, wherever it stands in the order';
COMMENT ON COLUMN sync_lists.behind IS 'how far the observation of each is behind the last';

-- The last finished read of each object and of each list, lists swept included.
CREATE VIEW sync_last_reads AS
SELECT kind, id, max(observation) AS observation, max(began_at) AS began_at
FROM (
    SELECT kind, id, observation, began_at FROM sync_reads
    UNION ALL
    SELECT l.kind, d.id, l.observation - list.behind, l.began_at
    FROM sync_lists l CROSS JOIN LATERAL unnest(l.keys, l.behind) AS list (key, behind)
    JOIN dossiers d ON hashtextextended(d.id, 0) = list.key
) reads
GROUP BY kind, id;

-- +goose Down

DROP VIEW sync_last_reads;
DROP TABLE sync_lists;
