package mirror

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// write sends the rows that changed and what the reads leave in the ledger.
func (m *Mirror) write(ctx context.Context, tx pgx.Tx, table *table, reads []*Read, s *state) error {
	var fresh, changed []*row
	for _, row := range s.rows {
		switch {
		case row.changed == 0:
		case row.isNew:
			fresh = append(fresh, row)
		default:
			changed = append(changed, row)
		}
	}
	if len(fresh) < leastCopied {
		fresh, changed = nil, append(fresh, changed...)
	}
	batch := &pgx.Batch{}
	if len(changed) > 0 {
		batch.Queue(table.upsert, append(table.upsertArgs(changed), numbersOf(changed))...)
	}
	queueStages(batch, s.entered)
	for _, row := range s.rows {
		if row.raised != nil {
			queueDoubt(batch, doubtRow{Kind: table.mapping.Kind, ID: row.id(), Parent: row.parent(), reason: reasonOlder,
				observation: row.raised.Number, since: row.doubt.since})
		}
	}
	queueLedger(batch, reads)
	for _, read := range reads {
		for _, body := range read.odd {
			batch.Queue(`INSERT INTO sync_oddities (kind, endpoint, body, observation) VALUES ($1, $2, $3, $4)
				ON CONFLICT DO NOTHING`, read.Kind, read.Endpoint, []byte(body), read.Number)
		}
	}
	if keys := sortedKeys(s.learned); len(keys) > 0 {
		nulls := make([]bool, len(keys))
		for i, key := range keys {
			nulls[i] = s.learned[key]
		}
		batch.Queue(`
			INSERT INTO sync_shapes (endpoint, key, nulls)
			SELECT $1, x.key, x.nulls FROM unnest($2::text[], $3::bool[]) AS x (key, nulls)
			ON CONFLICT (endpoint, key) DO UPDATE SET nulls = sync_shapes.nulls OR excluded.nulls`,
			reads[0].Endpoint, storableKeys(keys), nulls)
	}
	if len(fresh) > 0 {
		if err := table.copyIn(ctx, tx, fresh, s.now); err != nil {
			return fmt.Errorf("copy rows: %w", err)
		}
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}

// queueLedger notes that the reads have finished, for every object they told about. A read of one object is kept by that
// object's id, a page as one row of hashes: eight bytes an object. One that a page overtook has told nothing: whoever looks
// whether the object was read must not take it for done.
func queueLedger(batch *pgx.Batch, reads []*Read) {
	var numbers, sweeps []int64   // of pages
	var passes, first, last []int // of ids
	var filters, ids []string
	for _, read := range reads {
		seen := make([]string, 0, len(read.sightings))
		for _, s := range read.sightings {
			if !s.older && !s.overtaken {
				seen = append(seen, guardKey(s.key))
			}
		}
		switch {
		case len(seen) == 0, read.all: // the caller notes the whole list
		case read.single():
			queueRead(batch, string(read.Kind), seen[0], read.Observation)
		default:
			numbers, sweeps = append(numbers, read.Number), append(sweeps, read.Sweep)
			passes, filters = append(passes, read.Pass), append(filters, read.Filter)
			first = append(first, len(ids)+1)
			ids = append(ids, seen...)
			last = append(last, len(ids))
		}
	}
	if len(numbers) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO sync_pages (kind, observation, sweep, pass, filter, keys)
		SELECT $1, p.observation, nullif(p.sweep, 0), nullif(p.pass, 0), nullif(p.filter, ''),
		       (SELECT array_agg(hashtextextended(id, 0)) FROM unnest(($8::text[])[p.first:p.last]) AS k (id))
		FROM unnest($2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::int[], $7::int[]) AS p (observation, sweep, pass, filter, first, last)`,
		reads[0].Kind, numbers, sweeps, passes, filters, first, last, ids)
}

// single reports whether the read was of one object by its id.
func (r *Read) single() bool {
	return r.Endpoint == GetDossier || r.Endpoint == GetContact || r.Endpoint == Answers
}

func queueRead(batch *pgx.Batch, kind, id string, o Observation) {
	batch.Queue(`
		INSERT INTO sync_reads (kind, id, observation, began_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (kind, id) DO UPDATE SET observation = excluded.observation, began_at = excluded.began_at
		WHERE sync_reads.observation < excluded.observation`, kind, id, o.Number, o.BeganAt)
}

// queueKnown makes the batch fail with ErrRewound if the database does not know of the observation.
func queueKnown(batch *pgx.Batch, o Observation) {
	batch.Queue(`SELECT last_value < $1 FROM observations`, o.Number).QueryRow(func(r pgx.Row) error {
		var rewound bool
		if err := r.Scan(&rewound); err != nil || !rewound {
			return err
		}
		return ErrRewound
	})
}

// NoteRead puts a finished read into the ledger that had no object to apply: a 404, or the complete list of a parent.
func (m *Mirror) NoteRead(ctx context.Context, tx pgx.Tx, kind string, id string, o Observation) error {
	batch := &pgx.Batch{}
	queueKnown(batch, o)
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
