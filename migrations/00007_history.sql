-- +goose Up

-- Every version of a row, for the tables whose mapping says `history: on`: what LeadGrid held, as far as the mirror has
-- seen it, from valid_from until valid_to (null: still). The tables are here for all six, and stay empty where history is off.
-- They have the columns of their table, also those that a mapping has added.
-- +goose StatementBegin
DO $$
DECLARE
    kind text;
    keys text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['flows', 'stages', 'dossiers', 'contacts', 'dossier_contacts', 'notes'] LOOP
        keys := CASE kind WHEN 'dossier_contacts' THEN 'dossier_id, contact_id' ELSE 'id' END;
        EXECUTE format('CREATE TABLE %I (LIKE %I)', kind || '_history', kind);
        EXECUTE format('ALTER TABLE %I DROP COLUMN _original, DROP COLUMN _hash, DROP COLUMN _changed_at, DROP COLUMN _deleted_at,
                        DROP COLUMN IF EXISTS _erased_at, ADD COLUMN valid_from timestamptz, ADD COLUMN valid_to timestamptz,
                        ADD PRIMARY KEY (%s, valid_from)', kind || '_history', keys);
        EXECUTE format('CREATE UNIQUE INDEX ON %I (%s) WHERE valid_to IS NULL', kind || '_history', keys);
        EXECUTE format('CREATE INDEX ON %I (valid_to) WHERE valid_to IS NOT NULL', kind || '_history');
        EXECUTE format('COMMENT ON TABLE %I IS %L', kind || '_history',
                       'every version of the rows of ' || kind || ', where the mapping says history: on');
    END LOOP;
END $$;
-- +goose StatementEnd

-- Ends the versions that a statement replaces and begins the next ones, within that statement. It is a trigger's function, so
-- that no writer can forget it; its arguments are the table's key. A change comes with another observation: mapping a row
-- anew and erasing it are no changes of LeadGrid's, and make no version. Nor does a deleted row have one.
-- +goose StatementBegin
CREATE FUNCTION sync_keep_versions() RETURNS trigger LANGUAGE plpgsql AS $function$
DECLARE
    -- now() would not do: a transaction may have begun before the one whose version it ends.
    at      constant timestamptz := clock_timestamp();
    history constant text := format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME || '_history');
    kept    text;
    told    text;
    of_key  text;
    changed text := 'SELECT n.* FROM after n';
BEGIN
    IF NOT EXISTS (SELECT FROM after) THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(format('%I', h.attname), ', '), string_agg(format('c.%I', h.attname), ', ') INTO kept, told
    FROM pg_attribute h JOIN pg_attribute t ON t.attrelid = TG_RELID AND t.attname = h.attname AND NOT t.attisdropped
    WHERE h.attrelid = history::regclass AND h.attnum > 0 AND NOT h.attisdropped;
    SELECT string_agg(format('v.%1$I = c.%1$I', key), ' AND ') INTO of_key FROM unnest(TG_ARGV) AS key;
    IF TG_OP = 'UPDATE' THEN
        changed := 'SELECT c.* FROM after c JOIN before v ON ' || of_key || '
            WHERE (c._observed, c._deleted_at) IS DISTINCT FROM (v._observed, v._deleted_at)';
    END IF;
    EXECUTE format('
        WITH changed AS (%1$s), ended AS (
            UPDATE %2$s v SET valid_to = greatest($1, v.valid_from + interval ''1 microsecond'')
            FROM changed c WHERE %3$s AND v.valid_to IS NULL RETURNING v.*
        )
        INSERT INTO %2$s (valid_from, %4$s)
        SELECT coalesce(v.valid_to, $1), %5$s FROM changed c LEFT JOIN ended v ON %3$s WHERE c._deleted_at IS NULL',
        changed, history, of_key, kept, told) USING at;
    RETURN NULL;
END;
$function$;
-- +goose StatementEnd
