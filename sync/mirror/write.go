package mirror

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// write sends, in one round trip, the rows that changed and what the read leaves in the ledger.
func (m *Mirror) write(
	ctx context.Context, tx pgx.Tx, table *table, read Read, s *state, rows []*row, odd []json.RawMessage, changed []*row,
) error {
	batch := &pgx.Batch{}
	if len(changed) > 0 {
		batch.Queue(table.upsert, table.upsertArgs(changed, read.Number)...)
	}
	if read.Kind == mappings.Dossiers {
		queueStages(batch, read, changed)
	}
	for _, row := range rows {
		if row.older {
			since := read.BeganAt
			if known, ok := s.doubts[row.guardKey()]; ok && known.reason == reasonOlder {
				since = known.since
			}
			queueDoubt(batch, doubtRow{Kind: read.Kind, ID: row.id(), Parent: row.parent(), reason: reasonOlder,
				observation: read.Number, since: since})
		}
	}
	queueLedger(batch, read, rows)
	if keys, nulls := s.shape.learn(rows); len(keys) > 0 {
		batch.Queue(`
			INSERT INTO sync_shapes (endpoint, key, nulls)
			SELECT $1, x.key, x.nulls FROM unnest($2::text[], $3::bool[]) AS x (key, nulls)
			ON CONFLICT (endpoint, key) DO UPDATE SET nulls = sync_shapes.nulls OR excluded.nulls`,
			read.Endpoint, storableKeys(keys), nulls)
	}
	for _, body := range odd {
		batch.Queue(`INSERT INTO sync_oddities (kind, endpoint, body, observation) VALUES ($1, $2, $3, $4)
			ON CONFLICT DO NOTHING`, read.Kind, read.Endpoint, []byte(body), read.Number)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}

// queueLedger notes that the read has finished, for every object it told about. A read of one object is kept by that
// object's id, a page as one row of hashes: eight bytes an object.
func queueLedger(batch *pgx.Batch, read Read, rows []*row) {
	var seen []*row
	for _, row := range rows {
		if !row.older {
			seen = append(seen, row)
		}
	}
	switch {
	case len(seen) == 0:
	case read.single():
		queueRead(batch, string(read.Kind), seen[0].guardKey(), read.Observation)
	default:
		batch.Queue(`
			INSERT INTO sync_pages (kind, observation, sweep, pass, filter, keys)
			SELECT $1, $2, nullif($3::bigint, 0), nullif($4::int, 0), nullif($5, ''), array_agg(hashtextextended(k.id, 0))
			FROM unnest($6::text[]) AS k (id)`,
			read.Kind, read.Number, read.Sweep, read.Pass, read.Filter, guardKeysOf(seen))
	}
}

// single reports whether the read was of one object by its id.
func (r Read) single() bool {
	return r.Endpoint == GetDossier || r.Endpoint == GetContact || r.Endpoint == Answers
}

func queueRead(batch *pgx.Batch, kind, id string, o Observation) {
	batch.Queue(`
		INSERT INTO sync_reads (kind, id, observation, began_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (kind, id) DO UPDATE SET observation = excluded.observation, began_at = excluded.began_at
		WHERE sync_reads.observation < excluded.observation`, kind, id, o.Number, o.BeganAt)
}

// NoteRead puts a finished read into the ledger that had no object to apply: a 404, or the complete list of a parent.
func (m *Mirror) NoteRead(ctx context.Context, tx pgx.Tx, kind string, id string, o Observation) error {
	batch := &pgx.Batch{}
	queueRead(batch, kind, id, o)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("note read of %s %s: %w", kind, id, err)
	}
	return nil
}

// parent is the dossier of a link; other objects are identified without one.
func (r *row) parent() string {
	if len(r.key) == 2 {
		return r.key[0]
	}
	return ""
}

func storableKeys(keys []string) []string {
	for i, key := range keys {
		if value := mappings.Text.Convert(json.RawMessage(encodeString(key))); value != nil {
			keys[i] = *value
		}
	}
	return keys
}
