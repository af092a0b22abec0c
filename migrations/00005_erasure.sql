-- +goose Up

-- When a person's data left a row; the row stays, with its ids and times, so that joins and counts keep working.
ALTER TABLE contacts ADD COLUMN _erased_at timestamptz;
ALTER TABLE dossier_contacts ADD COLUMN _erased_at timestamptz;
ALTER TABLE dossiers ADD COLUMN _erased_at timestamptz;
ALTER TABLE notes ADD COLUMN _erased_at timestamptz;

-- Who must not come back. A person is known here only by a keyed hash of the id: with it, a sweep, a stale page or a
-- replay is told to leave the rest out; without the key nobody can tell from it who it was.
CREATE TABLE erasures (
    token     bytea PRIMARY KEY,
    kind      text NOT NULL,
    reason    text NOT NULL,
    dossiers  text[],
    erased_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN erasures.token IS 'erasure_token(kind, id)';
COMMENT ON COLUMN erasures.kind IS 'contacts, or dossiers erased with a contact';
COMMENT ON COLUMN erasures.dossiers IS 'dossiers about the same person that were kept, for somebody to decide about';
COMMENT ON COLUMN erasures.reason IS 'command: asked for by worker erase; deleted: gone from LeadGrid';

-- This installation's own two random keys, of HMAC's block size.
CREATE TABLE sync_erasure_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    inner_key bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
                                  || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
    outer_key bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
                                  || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
);
INSERT INTO sync_erasure_key DEFAULT VALUES;

-- HMAC-SHA256 but for its pads, which are random here. Its tables are found whatever the caller's search_path is.
-- +goose StatementBegin
CREATE FUNCTION erasure_token(kind text, id text) RETURNS bytea LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT sha256(k.outer_key || sha256(k.inner_key || convert_to(kind || ':' || id, 'UTF8'))) FROM sync_erasure_key k;
END;
-- +goose StatementEnd
