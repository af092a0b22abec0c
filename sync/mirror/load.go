package mirror

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// state is what the database knew when reads were applied, and what they have made of it so far.
type state struct {
	digest       string // of the mapping applied last
	now          time.Time
	adopted      bool
	parents      map[string]bool  // those that the mirror knows
	gone         map[string]bool  // those of them that are marked as deleted
	listed       map[string]int64 // the last complete read of parents' lists
	organization *string
	shape        shape
	learned      map[string]bool // keys of the shape that are new
	rows         []*row
	entered      []entered // stages
}

type doubt struct {
	reason string
	since  time.Time
}

// load locks the kind and reads, in one round trip, all that decides what may be written.
func (m *Mirror) load(ctx context.Context, tx pgx.Tx, table *table, reads []*Read) (*state, error) {
	s := &state{shape: make(shape), learned: make(map[string]bool), parents: make(map[string]bool), gone: make(map[string]bool), listed: make(map[string]int64)}
	byGuardKey := make(map[string]*row)
	var keys []string
	parents := make(map[string]bool)
	var last []int64 // that sighted each row
	var sightings []*sighting
	number := make(map[*row]int)
	least := reads[0].Number
	for _, read := range reads {
		least = min(least, read.Number)
		if read.Parent != "" {
			parents[read.Parent] = true
		}
		for _, sighting := range read.sightings {
			if parent := table.parentIn(read, sighting); parent != "" {
				parents[parent] = true
			}
			key := guardKey(sighting.key)
			r := byGuardKey[key]
			if r == nil {
				r = &row{key: sighting.key}
				byGuardKey[key], number[r] = r, len(keys)
				s.rows, keys, last = append(s.rows, r), append(keys, key), append(last, read.Number)
			}
			sighting.row = r
			last[number[r]] = max(last[number[r]], read.Number)
			sightings = append(sightings, sighting)
		}
	}

	batch := &pgx.Batch{}
	// Exclusive, because a page writes no ledger row per object that a read of one of them could collide with.
	batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, table.lock)
	// Only now, as applying another mapping takes the same lock.
	batch.Queue(appliedMapping).QueryRow(func(r pgx.Row) error { return r.Scan(&s.digest) })
	batch.Queue(`SELECT now()`).QueryRow(func(r pgx.Row) error { return r.Scan(&s.now) })
	batch.Queue(`SELECT organization_id FROM sync_organization`).Query(func(r pgx.Rows) error {
		for r.Next() {
			s.adopted = true
			if err := r.Scan(&s.organization); err != nil {
				return err
			}
		}
		return r.Err()
	})
	if len(parents) > 0 {
		batch.Queue(`SELECT id, _deleted_at IS NOT NULL FROM `+m.tables[parentOf[table.mapping.Kind].kind].name+` WHERE id = ANY ($1)`, sortedKeys(parents)).
			Query(func(r pgx.Rows) error {
				var id string
				var gone bool
				_, err := pgx.ForEachRow(r, []any{&id, &gone}, func() error { s.parents[id], s.gone[id] = true, gone; return nil })
				return err
			})
		batch.Queue(lastLists, LedgerKind(table.mapping.Kind), sortedKeys(parents)).Query(func(r pgx.Rows) error {
			var id string
			var number int64
			_, err := pgx.ForEachRow(r, []any{&id, &number, nil}, func() error { s.listed[id] = number; return nil })
			return err
		})
	}
	batch.Queue(`SELECT key, nulls FROM sync_shapes WHERE endpoint = $1`, reads[0].Endpoint).Query(func(r pgx.Rows) error {
		var key string
		var nulls bool
		_, err := pgx.ForEachRow(r, []any{&key, &nulls}, func() error { s.shape[key] = nulls; return nil })
		return err
	})
	if len(s.rows) == 0 {
		return s, tx.SendBatch(ctx, batch).Close()
	}
	// The numbers are of finished reads that began after ours.
	batch.Queue(laterPages, table.mapping.Kind, keys, least).Query(func(r pgx.Rows) error {
		var key string
		var number int64
		_, err := pgx.ForEachRow(r, []any{&key, &number}, func() error {
			byGuardKey[key].later = max(byGuardKey[key].later, number)
			return nil
		})
		return err
	})
	queueByIndex(batch, func() {
		batch.Queue(laterReads, table.mapping.Kind, keys, least).Query(func(r pgx.Rows) error {
			var key string
			var number int64
			_, err := pgx.ForEachRow(r, []any{&key, &number}, func() error {
				row := byGuardKey[key]
				row.alone, row.later = number, max(row.later, number)
				return nil
			})
			return err
		})
		table.queueProbe(batch, s.rows)
	})
	table.queueSuppressed(batch, reads, sightings)
	batch.Queue(clearDoubts, table.mapping.Kind, keys, last).Query(func(r pgx.Rows) error {
		var key string
		var d doubt
		_, err := pgx.ForEachRow(r, []any{&key, &d.reason, &d.since}, func() error {
			taken := d
			byGuardKey[key].doubt = &taken
			return nil
		})
		return err
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	for _, row := range s.rows {
		row.isNew = !row.exists
	}
	table.fillPools(s, reads)
	return s, m.restore(ctx, tx, table.mapping.Kind, s.rows)
}

func (t *table) queueProbe(batch *pgx.Batch, rows []*row) {
	batch.Queue(t.probe, t.keyArrays(rows)...).Query(func(r pgx.Rows) error {
		var n int64
		var hash *int64
		var deleted bool
		var pool *string
		_, err := pgx.ForEachRow(r, []any{&n, &hash, &deleted, &pool}, func() error {
			row := rows[n-1]
			row.exists, row.deleted, row.pool = true, deleted, pool
			if hash != nil {
				row.hash = *hash
			}
			return nil
		})
		return err
	})
}

// fillPools takes the pool of contacts as known where the reads' endpoint has never shown one: only the filtered lists tell it,
// and nothing else would tell a contact that has not changed from one that has, but to read and merge its row.
func (t *table) fillPools(s *state, reads []*Read) {
	if s.shape.has("pool") || slices.ContainsFunc(reads, func(r *Read) bool { return r.keys.has("pool") }) {
		return
	}
	var splitter splitter
	var buffer bytes.Buffer
	var pooled fields
	for _, read := range reads {
		for _, sighting := range read.sightings {
			if row := sighting.row; row.pool != nil && sighting.hash != row.hash {
				object, _ := splitter.split(sighting.body)
				i, _ := object.find("pool")
				pooled = append(append(append(pooled[:0], object[:i]...), field{[]byte("pool"), encodeString(*row.pool)}), object[i:]...)
				if hash := t.hashFields(pooled, &buffer); hash == row.hash {
					sighting.hash = hash
				}
			}
		}
	}
}

// laterReads and laterPages find the objects that a finished read has told about which began after ours. Equal numbers count as
// later: a sequence may repeat its last few values after a crash of Postgres.
const (
	laterReads = `SELECT id, observation FROM sync_reads WHERE kind = $1 AND id = ANY ($2) AND observation >= $3`
	laterPages = `
		SELECT k.id, p.observation FROM sync_pages p
		CROSS JOIN LATERAL unnest(p.keys) AS seen (key)
		JOIN unnest($2::text[]) AS k (id) ON hashtextextended(k.id, 0) = seen.key
		WHERE p.kind = $1 AND p.observation >= $3`
)

const clearDoubts = `
	DELETE FROM sync_doubts d USING unnest($2::text[], $3::bigint[]) AS k (id, observation)
	WHERE d.kind = $1 AND CASE d.parent WHEN '' THEN d.id ELSE d.parent || E'\x1f' || d.id END = k.id AND d.observation < k.observation
	RETURNING k.id, d.reason, d.since`

// parentIn gives the parent whose list the object is in. A finished complete read of that list was a read of every row that
// the mirror has of it, seen or not seen.
func (t *table) parentIn(read *Read, s *sighting) string {
	if _, ok := parentOf[t.mapping.Kind]; !ok {
		return ""
	}
	if s.parent != "" {
		return s.parent
	}
	return read.Parent
}

// mayChange gives the rows that exist and that some read shows differently.
func (s *state) mayChange(reads []*Read) (rows []*row) {
	picked := make(map[*row]bool)
	for _, read := range reads {
		for _, sighting := range read.sightings {
			row := sighting.row
			same := !row.deleted && read.Whole && sighting.hash == row.hash
			if row.exists && !same && !picked[row] {
				picked[row] = true
				rows = append(rows, row)
			}
		}
	}
	return rows
}
