package mirror

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// state is what the database knew when reads were applied, and what they have made of it so far.
type state struct {
	digest       string // of the mapping applied last
	now          time.Time
	adopted      bool
	organization *string
	rewound      bool // the database knows no observation as late as the reads
	rare         rare
	parents      map[string]bool  // those that the mirror knows
	gone         map[string]bool  // those of them that are marked as deleted
	listed       map[string]int64 // the last complete read of parents' lists
	held         []held           // live rows of parents whose lists were read completely
	shape        shape
	learned      map[string]bool // keys of the shape that are new
	rows         []*row
	byKey        map[string]*row // the same, by what the ledger calls them
	entered      []entered       // stages
}

// rare says what there is to be looked up about rows at all: to look up the keys of pages costs more than to know.
type rare struct {
	later    bool // pages of the kind were read that began after ours
	doubts   bool // rows of the kind are in doubt
	erasures bool // people were erased
}

// held is a row by the parent in whose list it is.
type held struct{ parent, id string }

type doubt struct {
	reason string
	since  time.Time
}

// load locks the kind and reads, in one round trip, all that decides what may be written; in another one what is rare.
func (m *Mirror) load(ctx context.Context, tx pgx.Tx, table *table, reads []*Read) (*state, error) {
	s := &state{shape: make(shape), learned: make(map[string]bool), parents: make(map[string]bool), gone: make(map[string]bool), listed: make(map[string]int64)}
	byNumber := func(a, b *Read) int { return cmp.Compare(a.Number, b.Number) }
	oldest, newest := slices.MinFunc(reads, byNumber).Number, slices.MaxFunc(reads, byNumber).Number
	keys := s.gather(reads)
	lists := completeLists(reads)
	batch := &pgx.Batch{}
	// Exclusive, because a page writes no ledger row per object that a read of one of them could collide with. All else comes
	// behind it, as applying another mapping takes the same lock.
	batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, table.lock)
	queueByIndex(batch, func() {
		batch.Queue(whatThereIs, table.mapping.Kind, oldest, newest).QueryRow(func(r pgx.Row) error {
			return r.Scan(&s.digest, &s.rewound, &s.now, &s.adopted, &s.organization, &s.rare.later, &s.rare.doubts, &s.rare.erasures)
		})
		switch {
		case len(lists) > 0:
			table.queueHeld(batch, s, lists)
		case len(keys) > 0:
			table.queueProbe(batch, s.rows)
		}
		if len(keys) > 0 {
			s.queueLater(batch, laterReads, table.mapping.Kind, keys, oldest)
		}
	})
	m.queueParents(batch, table, s, reads)
	batch.Queue(`SELECT key, nulls FROM sync_shapes WHERE endpoint = $1`, reads[0].Endpoint).Query(func(r pgx.Rows) error {
		var key string
		var nulls bool
		_, err := pgx.ForEachRow(r, []any{&key, &nulls}, func() error { s.shape[key] = nulls; return nil })
		return err
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil || len(keys) == 0 {
		return s, err
	}
	if err := table.loadRare(ctx, tx, s, reads, keys, oldest, len(lists) > 0); err != nil {
		return nil, err
	}
	for _, row := range s.rows {
		row.isNew = !row.exists
	}
	table.fillPools(s, reads)
	return s, m.restore(ctx, tx, table.mapping.Kind, s.rows)
}

// completeLists gives the parents whose lists were read completely.
func completeLists(reads []*Read) (parents []string) {
	for _, read := range reads {
		if read.complete {
			parents = append(parents, read.Parent)
		}
	}
	return parents
}

// loadRare looks up, where there is anything of the kind, what else decides about rows; and those that no parent holds in whose
// list they are, if rows have been looked up by that so far.
func (t *table) loadRare(ctx context.Context, tx pgx.Tx, s *state, reads []*Read, keys []string, oldest int64, byParent bool) error {
	batch := &pgx.Batch{}
	if byParent {
		unheld := slices.DeleteFunc(slices.Clone(s.rows), func(r *row) bool { return r.exists })
		if len(unheld) > 0 {
			queueByIndex(batch, func() { t.queueProbe(batch, unheld) })
		}
	}
	if s.rare.later {
		s.queueLater(batch, laterPages, t.mapping.Kind, keys, oldest)
	}
	if s.rare.erasures {
		t.queueSuppressed(batch, reads)
	}
	if s.rare.doubts {
		t.queueClearDoubts(batch, s, keys)
	}
	if batch.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, batch).Close()
}

const whatThereIs = `
	SELECT (` + appliedMapping + `), (SELECT last_value < $3 FROM observations), now(), EXISTS (SELECT FROM sync_organization), (SELECT organization_id FROM sync_organization),
	       EXISTS (SELECT FROM sync_pages WHERE kind = $1 AND observation >= $2),
	       EXISTS (SELECT FROM sync_doubts WHERE kind = $1), EXISTS (SELECT FROM erasures)`

// gather finds which rows the reads show, and gives their keys.
func (s *state) gather(reads []*Read) (keys []string) {
	sightings := 0
	for _, read := range reads {
		sightings += len(read.sightings)
	}
	s.byKey = make(map[string]*row, sightings)
	rows := make([]row, 0, sightings) // in one piece
	for _, read := range reads {
		for _, sighting := range read.sightings {
			key := guardKey(sighting.key)
			r := s.byKey[key]
			if r == nil {
				rows = append(rows, row{key: sighting.key})
				r = &rows[len(rows)-1]
				s.byKey[key], s.rows, keys = r, append(s.rows, r), append(keys, key)
			}
			sighting.row, r.read = r, max(r.read, read.Number)
		}
	}
	return keys
}

// queueParents looks up the parents in whose lists the rows are, and when those were last read.
func (m *Mirror) queueParents(batch *pgx.Batch, table *table, s *state, reads []*Read) {
	parents := make(map[string]bool)
	for _, read := range reads {
		if read.Parent != "" {
			parents[read.Parent] = true
		}
		for _, sighting := range read.sightings {
			if parent := table.parentIn(read, sighting); parent != "" {
				parents[parent] = true
			}
		}
	}
	if len(parents) == 0 {
		return
	}
	ids := sortedKeys(parents)
	batch.Queue(`SELECT id, _deleted_at IS NOT NULL FROM `+m.tables[parentOf[table.mapping.Kind].kind].name+` WHERE id = ANY ($1)`, ids).
		Query(func(r pgx.Rows) error {
			var id string
			var gone bool
			_, err := pgx.ForEachRow(r, []any{&id, &gone}, func() error { s.parents[id], s.gone[id] = true, gone; return nil })
			return err
		})
	batch.Queue(lastLists, LedgerKind(table.mapping.Kind), ids).Query(func(r pgx.Rows) error {
		var id string
		var number int64
		_, err := pgx.ForEachRow(r, []any{&id, &number, nil}, func() error { s.listed[id] = number; return nil })
		return err
	})
}

// queueLater looks up the finished reads that began after ours, by laterReads or laterPages.
func (s *state) queueLater(batch *pgx.Batch, later string, kind mappings.Kind, keys []string, oldest int64) {
	batch.Queue(later, kind, keys, oldest).Query(func(r pgx.Rows) error {
		var key string
		var number int64
		_, err := pgx.ForEachRow(r, []any{&key, &number}, func() error {
			row := s.byKey[key]
			row.later = max(row.later, number)
			if later == laterReads {
				row.alone = number
			}
			return nil
		})
		return err
	})
}

// queueClearDoubts takes back the doubts about rows that the reads show.
func (t *table) queueClearDoubts(batch *pgx.Batch, s *state, keys []string) {
	numbers := make([]int64, len(s.rows))
	for i, row := range s.rows {
		numbers[i] = row.read
	}
	batch.Queue(clearDoubts, t.mapping.Kind, keys, numbers).Query(func(r pgx.Rows) error {
		var key string
		var d doubt
		_, err := pgx.ForEachRow(r, []any{&key, &d.reason, &d.since}, func() error {
			taken := d
			s.byKey[key].doubt = &taken
			return nil
		})
		return err
	})
}

// queueHeld looks up all rows of parents: those that their lists show, and those that they do not.
func (t *table) queueHeld(batch *pgx.Batch, s *state, parents []string) {
	batch.Queue(t.holds, parents).Query(func(r pgx.Rows) error {
		var h held
		var hash *int64
		var deleted bool
		_, err := pgx.ForEachRow(r, []any{&h.parent, &h.id, &hash, &deleted}, func() error {
			if !deleted {
				s.held = append(s.held, h)
			}
			key := h.id
			if len(t.mapping.Key) > 1 {
				key = guardKey([]string{h.parent, h.id})
			}
			if row := s.byKey[key]; row != nil {
				row.exists, row.deleted = true, deleted
				if hash != nil {
					row.hash = *hash
				}
			}
			return nil
		})
		return err
	})
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
