-- +goose Up

-- What a sweep did not mark as deleted because there was too much of it is not marked by a later one either, however much the
-- mirror grows meanwhile, until a person has accepted it or LeadGrid shows it again.
ALTER TABLE sync_doubts ADD COLUMN held boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN sync_doubts.held IS 'a sweep has stopped rather than mark it as deleted: a person has to accept that';

-- +goose Down

ALTER TABLE sync_doubts DROP COLUMN held;
