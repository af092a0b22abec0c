package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Read is what one request told about objects of one kind.
type Read struct {
	Observation
	Kind     mappings.Kind
	Endpoint Endpoint
	// Parent is the dossier or flow that the objects were asked of; that LeadGrid answers for one that the mirror knows
	// shows which organization answers.
	Parent string
	// Objects are the objects as received.
	Objects []json.RawMessage
	// Whole says that a documented field the objects leave out is null, as in a GET; false for lists thinner than the
	// GET and for the answers to writes, where absence says nothing.
	Whole bool
	// Insert lets a read that is not whole add rows: the answer to a create does, a thin list must not, since a row
	// that lacks half its fields looks right and is wrong.
	Insert bool
	// Sweep, Pass and Filter tie a list page to the sweep that read it; zero outside of sweeps.
	Sweep  int64
	Pass   int
	Filter string
	// Proven says that a later read has shown the organization to be the mirrored one.
	Proven bool
}

// Applied says what a read came to.
type Applied struct {
	Inserted  []string // ids of rows that are new, or back
	Changed   int      // rows written, the inserted included
	Unchanged int
	Stale     int      // rows that a later read had already told about
	Older     []string // ids shown with an older updated_at than known: refused, to be read again
	Thin      []string // ids of objects unknown here that the read was too thin to add
	Deleted   []string // ids of rows found gone
	Proved    bool     // the read was about the mirrored organization
	Odd       int      // objects without a usable id: kept aside
	Keys      []string // ids of everything seen, the refused excluded
}

// Add adds up what two reads came to.
func (a *Applied) Add(b Applied) {
	a.Inserted = append(a.Inserted, b.Inserted...)
	a.Changed += b.Changed
	a.Unchanged += b.Unchanged
	a.Stale += b.Stale
	a.Older = append(a.Older, b.Older...)
	a.Thin = append(a.Thin, b.Thin...)
	a.Proved = a.Proved || b.Proved
	a.Deleted = append(a.Deleted, b.Deleted...)
	a.Odd += b.Odd
	a.Keys = append(a.Keys, b.Keys...)
}

// row is one object on its way into its table.
type row struct {
	key   []string // one text per key column
	told  mappings.Object
	body  json.RawMessage // the object as received
	known mappings.Object // what the mirror has, nil when it has nothing

	exists  bool
	deleted bool
	hash    int64 // of the row as it stands
	stale   bool
	older   bool
	erased  bool // it is about somebody who was erased: only ids and times are told

	rawless bool // it was rebuilt from its columns, while it is mapped anew

	merged     mappings.Object
	mergedHash int64
}

// guardKey is how the ledger names the object.
func (r *row) guardKey() string { return strings.Join(r.key, "\x1f") }

func (r *row) id() string { return r.key[len(r.key)-1] }

// Apply writes what a read told, in the caller's transaction. It takes the lock of the read's kind until that ends.
func (m *Mirror) Apply(ctx context.Context, tx pgx.Tx, read Read) (applied Applied, err error) {
	defer func() {
		if err != nil && !errors.Is(err, ErrUnproven) && !errors.Is(err, ErrOtherOrganization) {
			err = fmt.Errorf("apply %s, observation %d: %w", read.Endpoint, read.Number, err)
		}
	}()
	table := m.tables[read.Kind]
	rows, odd := table.parse(read.Objects)
	applied.Odd, applied.Proved = len(odd), len(rows) > 0

	state, err := m.load(ctx, tx, table, read, rows)
	if err != nil {
		return Applied{}, err
	}
	if state.digest != m.digest {
		return Applied{}, ErrOtherMapping
	}
	if err := m.proveOrganization(ctx, tx, state, read, rows); err != nil {
		return Applied{}, err
	}
	var touched []*row
	for _, row := range rows {
		switch {
		case row.stale:
			applied.Stale++
		case !row.exists && !read.Whole && !read.Insert:
			applied.Thin = append(applied.Thin, row.id())
		case row.exists && !row.deleted && read.Whole && table.hash(row.told) == row.hash:
			applied.Unchanged++
		default:
			touched = append(touched, row)
		}
	}
	changed, err := m.change(ctx, tx, table, read, state, touched, &applied)
	if err != nil {
		return Applied{}, err
	}
	if err := m.write(ctx, tx, table, read, state, rows, odd, changed); err != nil {
		return Applied{}, err
	}
	for _, row := range rows {
		if !row.older {
			applied.Keys = append(applied.Keys, row.id())
		}
	}
	return applied, nil
}

// parse reads the objects. Where a page shows the same object twice, the last one counts.
func (t *table) parse(objects []json.RawMessage) (rows []*row, odd []json.RawMessage) {
	at := make(map[string]int, len(objects))
	for _, body := range objects {
		var told mappings.Object
		if err := json.Unmarshal(body, &told); err != nil || told == nil {
			odd = append(odd, t.oddity(body))
			continue
		}
		key, ok := t.mapping.ID(told)
		if !ok {
			odd = append(odd, t.oddity(body))
			continue
		}
		if t.mapping.Strict() {
			told = t.mapping.Shape(told)
			body = encode(told)
		}
		r := &row{key: key, told: told, body: body}
		if i, seen := at[r.guardKey()]; seen {
			rows[i] = r
			continue
		}
		at[r.guardKey()] = len(rows)
		rows = append(rows, r)
	}
	return rows, odd
}

// state is what the database knew when a read was applied.
type state struct {
	digest       string // of the mapping applied last
	adopted      bool
	parentKnown  bool
	organization *string
	shape        shape
	doubts       map[string]doubt // the doubts about these objects that this read takes away, by guard key
}

type doubt struct {
	reason string
	since  time.Time
}

// load locks the kind and reads, in one round trip, all that decides what may be written.
func (m *Mirror) load(ctx context.Context, tx pgx.Tx, table *table, read Read, rows []*row) (*state, error) {
	keys := table.keyArrays(rows)
	guardKeys := guardKeysOf(rows)
	s := &state{shape: make(shape), doubts: make(map[string]doubt)}
	byGuardKey := make(map[string]*row, len(rows))
	for _, row := range rows {
		byGuardKey[row.guardKey()] = row
	}

	batch := &pgx.Batch{}
	// Exclusive, because a page writes no ledger row per object that a read of one of them could collide with.
	batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, table.lock)
	// Only now, as applying another mapping takes the same lock.
	batch.Queue(appliedMapping).QueryRow(func(r pgx.Row) error { return r.Scan(&s.digest) })
	batch.Queue(`SELECT organization_id FROM sync_organization`).Query(func(r pgx.Rows) error {
		for r.Next() {
			s.adopted = true
			if err := r.Scan(&s.organization); err != nil {
				return err
			}
		}
		return r.Err()
	})
	if read.Parent != "" {
		batch.Queue(`SELECT EXISTS (SELECT FROM `+m.tables[parentOf[read.Kind].kind].name+` WHERE id = $1)`, read.Parent).
			QueryRow(func(r pgx.Row) error { return r.Scan(&s.parentKnown) })
	}
	batch.Queue(`SELECT key, nulls FROM sync_shapes WHERE endpoint = $1`, read.Endpoint).Query(func(r pgx.Rows) error {
		var key string
		var nulls bool
		_, err := pgx.ForEachRow(r, []any{&key, &nulls}, func() error { s.shape[key] = nulls; return nil })
		return err
	})
	batch.Queue(laterReads, read.Kind, guardKeys, read.Number).Query(func(r pgx.Rows) error {
		var key string
		_, err := pgx.ForEachRow(r, []any{&key}, func() error { byGuardKey[key].stale = true; return nil })
		return err
	})
	batch.Queue(table.probe, keys...).Query(func(r pgx.Rows) error {
		var n int64
		var hash *int64
		var deleted bool
		_, err := pgx.ForEachRow(r, []any{&n, &hash, &deleted}, func() error {
			row := rows[n-1]
			row.exists, row.deleted = true, deleted
			if hash != nil {
				row.hash = *hash
			}
			return nil
		})
		return err
	})
	table.queueSuppressed(batch, read, rows)
	batch.Queue(clearDoubts, read.Kind, guardKeys, read.Number).Query(func(r pgx.Rows) error {
		var key string
		var d doubt
		_, err := pgx.ForEachRow(r, []any{&key, &d.reason, &d.since}, func() error { s.doubts[key] = d; return nil })
		return err
	})
	return s, tx.SendBatch(ctx, batch).Close()
}

// laterReads finds the objects that a finished read has told about which began after ours. Equal numbers count as later:
// a sequence may repeat its last few values after a crash of Postgres.
const laterReads = `
	SELECT r.id FROM sync_reads r WHERE r.kind = $1 AND r.id = ANY ($2) AND r.observation >= $3
	UNION
	SELECT k.id
	FROM sync_pages p
	CROSS JOIN LATERAL unnest(p.keys) AS seen (key)
	JOIN unnest($2::text[]) AS k (id) ON hashtextextended(k.id, 0) = seen.key
	WHERE p.kind = $1 AND p.observation >= $3`

const clearDoubts = `
	DELETE FROM sync_doubts
	WHERE kind = $1 AND CASE parent WHEN '' THEN id ELSE parent || E'\x1f' || id END = ANY ($2) AND observation < $3
	RETURNING CASE parent WHEN '' THEN id ELSE parent || E'\x1f' || id END, reason, since`

// proveOrganization adopts the organization on the first read ever, and afterwards lets nothing in that may come from
// another one (promise 5).
func (m *Mirror) proveOrganization(ctx context.Context, tx pgx.Tx, s *state, read Read, rows []*row) error {
	var theirs string
	for _, row := range rows {
		id := text(row.told, "organization_id")
		if id == "" {
			continue
		}
		if s.organization != nil && id != *s.organization {
			return ErrOtherOrganization
		}
		theirs = id
	}
	switch {
	case len(rows) == 0:
		return nil
	case !s.adopted, s.organization == nil && theirs != "" && (read.Proven || anyKnown(rows)):
		_, err := tx.Exec(ctx, `
			INSERT INTO sync_organization (organization_id) VALUES (nullif($1, ''))
			ON CONFLICT (singleton) DO UPDATE SET organization_id = excluded.organization_id`, theirs)
		if err != nil {
			return fmt.Errorf("adopt organization: %w", err)
		}
		return nil
	case read.Proven, s.parentKnown, theirs != "" && s.organization != nil, anyKnown(rows):
		return nil
	}
	return ErrUnproven
}

func anyKnown(rows []*row) bool {
	for _, row := range rows {
		if row.exists {
			return true
		}
	}
	return false
}

// change merges each touched row with what is known and returns the rows that come out different.
func (m *Mirror) change(
	ctx context.Context, tx pgx.Tx, table *table, read Read, s *state, touched []*row, applied *Applied,
) (changed []*row, err error) {
	if err := table.loadKnown(ctx, tx, touched); err != nil {
		return nil, err
	}
	for _, row := range touched {
		if row.erased {
			row.known = table.withoutPerson(row.known)
		}
		if row.exists && isOlder(row.told, row.known) && !m.believeOlder(s, read, row) {
			row.older = true
			applied.Older = append(applied.Older, row.id())
			continue
		}
		row.merged = merge(row.known, row.told, read.Whole, s.shape, table.mapping.Documented)
		row.mergedHash = table.hash(row.merged)
		if row.exists && !row.deleted && row.mergedHash == row.hash {
			applied.Unchanged++
			continue
		}
		if !row.exists || row.deleted {
			applied.Inserted = append(applied.Inserted, row.id())
		}
		changed = append(changed, row)
		applied.Changed++
	}
	return changed, nil
}

// believeOlder tells a lagging replica from a LeadGrid whose clock or data went back: what still looks older in a read
// that began when no replica can be that far behind any more is what LeadGrid holds.
func (m *Mirror) believeOlder(s *state, read Read, row *row) bool {
	doubt, ok := s.doubts[row.guardKey()]
	return ok && doubt.reason == reasonOlder && read.BeganAt.Sub(doubt.since) > 2*m.lag
}

func guardKeysOf(rows []*row) []string {
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = row.guardKey()
	}
	return keys
}
