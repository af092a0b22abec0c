package mirror

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	// Objects are the objects as received: valid JSON, as leadgridapi gives them.
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

	complete  bool        // together with the reads beside it, it tells all that the parent holds
	all       bool        // so it does alone: the ledger knows the read by the parent
	sightings []*sighting // what Prepare made of Objects
	keys      shape       // of the objects
	odd       []json.RawMessage
}

// Applied says what a read came to.
type Applied struct {
	Inserted  []string // ids of rows that are new, or back
	Changed   int      // rows written, the inserted included
	Unchanged int
	Stale     int      // rows that a later read had already told about
	Overtaken bool     // a read of one object was of no use: a page of a list, which may hide fields, showed it later. Read it again
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
	a.Overtaken = a.Overtaken || b.Overtaken
	a.Older = append(a.Older, b.Older...)
	a.Thin = append(a.Thin, b.Thin...)
	a.Proved = a.Proved || b.Proved
	a.Deleted = append(a.Deleted, b.Deleted...)
	a.Odd += b.Odd
	a.Keys = append(a.Keys, b.Keys...)
}

// row is a row of a mirrored table on its way through the reads that show it.
type row struct {
	key   []string // one text per key column
	read  int64    // the last of ours that shows it
	later int64    // the last read that has told about it, if one has that is later than any of ours
	alone int64    // the last one of it alone, if that is later than any of ours

	shown   bool // by a read that was about the mirrored organization
	exists  bool
	deleted bool
	hash    int64           // of the row as it stands
	pool    *string         // of a contact, as its row has it
	known   mappings.Object // what the mirror has, nil when it has nothing or body says it
	body    json.RawMessage // the object as received, where nothing was merged into it

	erased   bool  // it is about somebody who was erased: only ids and times are told
	returned bool  // it is about somebody who was deleted, and so erased, and is back
	isNew    bool  // it is not in the table yet
	changed  int64 // the read that changed it, 0 if none did

	doubt  *doubt // that a read took away or raised
	raised *Read  // the read that raised it

	rawless bool // it was rebuilt from its columns, while it is mapped anew
}

// object gives what the mirror has, nil when it has nothing.
func (r *row) object() mappings.Object {
	if r.known == nil && r.body != nil {
		r.known, _ = mappings.Take(r.body)
	}
	return r.known
}

// sighting is one object as one read showed it.
type sighting struct {
	key          []string
	organization string          // that it says it belongs to
	parent       string          // that it says it hangs on
	body         json.RawMessage // the object as received
	told         mappings.Object // what it says; made when somebody asks
	hash         int64
	row          *row
	older        bool // than it is known: refused
	overtaken    bool // by a page of a list
}

func (s *sighting) object() mappings.Object {
	if s.told == nil {
		s.told, _ = mappings.Take(s.body)
	}
	return s.told
}

// guardKey is how the ledger names an object.
func guardKey(key []string) string { return strings.Join(key, "\x1f") }

func (r *row) id() string { return r.key[len(r.key)-1] }

// Prepare takes the read apart, which Apply would do otherwise while it holds the kind's lock.
func (m *Mirror) Prepare(read Read) Read {
	if read.sightings == nil {
		read.sightings, read.keys, read.odd = m.tables[read.Kind].parse(read.Objects)
	}
	return read
}

// Apply writes what a read told, in the caller's transaction. It takes the lock of the read's kind until that ends.
func (m *Mirror) Apply(ctx context.Context, tx pgx.Tx, read Read) (Applied, error) {
	applied, err := m.ApplyAll(ctx, tx, []Read{read})
	if err != nil {
		return Applied{}, err
	}
	return applied[0], nil
}

// ApplyAll does for several reads of one kind and endpoint, in the order in which they began, what Apply does for each, in
// as many round trips as for one. It returns what each of them came to. A read is proven by sharing an object with one given
// before it.
func (m *Mirror) ApplyAll(ctx context.Context, tx pgx.Tx, reads []Read) ([]Applied, error) {
	applied, _, err := m.applyAll(ctx, tx, reads)
	return applied, err
}

func (m *Mirror) applyAll(ctx context.Context, tx pgx.Tx, reads []Read) (applied []Applied, s *state, err error) {
	if len(reads) == 0 {
		return nil, &state{}, nil
	}
	first := reads[0]
	defer func() {
		if err != nil && !errors.Is(err, ErrUnproven) && !errors.Is(err, ErrOtherOrganization) {
			err = fmt.Errorf("apply %s, observation %d: %w", first.Endpoint, first.Number, err)
		}
	}()
	table := m.tables[first.Kind]
	applied = make([]Applied, len(reads))
	prepared := make([]*Read, len(reads))
	for i, read := range reads {
		read = m.Prepare(read)
		prepared[i] = &read
		applied[i].Odd, applied[i].Proved = len(read.odd), len(read.sightings) > 0
	}
	inOrder := slices.SortedFunc(slices.Values(indexes(reads)), func(a, b int) int { return cmp.Compare(reads[a].Number, reads[b].Number) })

	if s, err = m.load(ctx, tx, table, prepared); err != nil {
		return nil, nil, err
	}
	switch {
	case s.digest != m.digest:
		return nil, nil, ErrOtherMapping
	case s.rewound:
		return nil, nil, ErrRewound
	}
	if err := table.loadKnown(ctx, tx, s.mayChange(prepared)); err != nil {
		return nil, nil, err
	}
	for _, read := range prepared {
		if err := m.proveOrganization(ctx, tx, s, read); err != nil {
			return nil, nil, err
		}
	}
	for _, i := range inOrder {
		m.tell(table, s, prepared[i], &applied[i])
	}
	if err := m.write(ctx, tx, table, prepared, s); err != nil {
		return nil, nil, err
	}
	return applied, s, nil
}

func indexes[T any](slice []T) []int {
	all := make([]int, len(slice))
	for i := range all {
		all[i] = i
	}
	return all
}

// parser takes pages of one kind apart, one after the other.
type parser struct {
	splitter splitter
	buffer   bytes.Buffer
	shown    []shown // of each sorted field of the splitter's order, as far as the page has shown it
}

type shown struct{ key, null bool }

// parse reads the objects, and which keys they show. Where a page shows the same object twice, the last one counts.
func (t *table) parse(objects []json.RawMessage) (sightings []*sighting, keys shape, odd []json.RawMessage) {
	p, ok := t.parsers.Get().(*parser)
	if !ok {
		p = new(parser)
	}
	defer t.parsers.Put(p)
	sightings = make([]*sighting, 0, len(objects))
	all := make([]sighting, len(objects)) // in one piece
	ids := make([]string, len(objects)*len(t.mapping.Key))
	keys = make(shape)
	at := make(map[string]int, len(objects))
	order := -1
	for i, body := range objects {
		object, ok := p.splitter.split(body)
		s := &all[i]
		s.body = body
		if s.key, ids = t.keyIn(object, ids); !ok || s.key == nil {
			odd = append(odd, t.oddity(body))
			continue
		}
		if t.mapping.Strict() {
			s.told = t.mapping.Shape(s.object())
			s.body, object = encode(s.told), fieldsOf(s.told)
		}
		s.hash = t.hashFields(object, &p.buffer)
		s.organization = stringIn(object.get("organization_id"))
		if of, ok := parentOf[t.mapping.Kind]; ok {
			s.parent, _ = mappings.TextOf(object.get(of.column))
		}
		if t.mapping.Strict() || order != p.splitter.times {
			order = p.splitter.times
			p.shown = slices.Grow(p.shown[:0], len(object))[:len(object)]
			for i, f := range object {
				p.shown[i].null, p.shown[i].key = keys[string(f.key)], keys.has(string(f.key))
			}
		}
		for i, f := range object {
			if null := isNull(f.value); !p.shown[i].key || null && !p.shown[i].null {
				keys[string(f.key)], p.shown[i] = null, shown{key: true, null: null}
			}
		}
		if i, seen := at[guardKey(s.key)]; seen {
			sightings[i] = s
			continue
		}
		at[guardKey(s.key)] = len(sightings)
		sightings = append(sightings, s)
	}
	return sightings, keys, odd
}

// keyIn gives the object's key, as mappings.Table.ID does, in the room given, and the room that is left; nil where it has none.
func (t *table) keyIn(object fields, room []string) (key, left []string) {
	n := len(t.mapping.Key)
	key = room[:n:n]
	for i, name := range t.mapping.Key {
		if key[i], _ = mappings.TextOf(object.get(name)); key[i] == "" || key[i] == "." || key[i] == ".." { // which no path can name
			return nil, room
		}
	}
	return key, room[n:]
}

// proveOrganization adopts the organization on the first read ever, and afterwards lets nothing in that may come from
// another one (promise 5).
func (m *Mirror) proveOrganization(ctx context.Context, tx pgx.Tx, s *state, read *Read) error {
	var theirs string
	for _, sighting := range read.sightings {
		id := sighting.organization
		if id == "" {
			continue
		}
		if s.organization != nil && id != *s.organization {
			return ErrOtherOrganization
		}
		theirs = id
	}
	known := slices.ContainsFunc(read.sightings, func(s *sighting) bool { return s.row.exists || s.row.shown })
	switch {
	case len(read.sightings) == 0:
	case !s.adopted, s.organization == nil && theirs != "" && (read.Proven || known):
		_, err := tx.Exec(ctx, `
			INSERT INTO sync_organization (organization_id) VALUES (nullif($1, ''))
			ON CONFLICT (singleton) DO UPDATE SET organization_id = excluded.organization_id`, theirs)
		if err != nil {
			return fmt.Errorf("adopt organization: %w", err)
		}
		s.adopted = true
		if theirs != "" {
			s.organization = &theirs
		}
	case read.Proven, s.parents[read.Parent], theirs != "" && s.organization != nil, known:
	default:
		return ErrUnproven
	}
	for _, sighting := range read.sightings {
		sighting.row.shown = true
	}
	return nil
}

// tell merges what a read showed into the rows, as far as it may.
func (m *Mirror) tell(table *table, s *state, read *Read, applied *Applied) {
	for _, sighting := range read.sightings {
		row := sighting.row
		row.raised = nil // a doubt that a read of the same batch raised before this one
		parent := table.parentIn(read, sighting)
		switch {
		case s.gone[parent]:
			applied.Stale++ // no sweep reads what hangs on it, and nothing would take away what comes late
		case row.later >= read.Number, !row.isNew && s.listed[parent] >= read.Number:
			applied.Stale++
			if read.single() && row.alone < read.Number {
				sighting.overtaken, applied.Overtaken = true, true
			}
		case !row.exists && !read.Whole && !read.Insert:
			applied.Thin = append(applied.Thin, row.id())
		case row.exists && !row.deleted && read.Whole && sighting.hash == row.hash:
			applied.Unchanged++
		default:
			m.merge(table, s, read, sighting, applied)
		}
		if !sighting.older {
			applied.Keys = append(applied.Keys, row.id())
		}
	}
	s.shape.learn(read.keys, s.learned)
}

// merge merges one sighting with what is known.
func (m *Mirror) merge(table *table, s *state, read *Read, sighting *sighting, applied *Applied) {
	row := sighting.row
	row.known = row.object()
	if row.erased {
		row.known = table.withoutPerson(row.known)
	}
	var told mappings.Object
	if row.known != nil { // or else nobody asks what is in the bytes: most of what is told first is written as it came
		told = sighting.object()
		if !read.single() {
			told = uncut(told, row.known)
		}
	}
	// A row that went is back: no replica is so far behind, since rows go only when none can still hide their last change.
	if row.exists && !row.deleted && isOlder(told, row.known) && !m.believeOlder(row.doubt, read) {
		sighting.older, row.raised = true, read
		if row.doubt == nil || row.doubt.reason != reasonOlder {
			row.doubt = &doubt{reason: reasonOlder, since: read.BeganAt}
		}
		applied.Older = append(applied.Older, row.id())
		return
	}
	var merged mappings.Object
	hash := sighting.hash
	if row.known != nil {
		merged = merge(row.known, told, read.Whole, s.shape, table.mapping.Documented)
		hash = table.hash(merged)
	}
	if row.exists && !row.deleted && hash == row.hash {
		applied.Unchanged++
		return
	}
	if !row.exists || row.deleted {
		applied.Inserted = append(applied.Inserted, row.id())
	}
	if read.Kind == mappings.Dossiers {
		s.enter(row, sighting, merged, read)
	}
	row.body = nil
	if merged == nil {
		row.body = sighting.body
	}
	row.exists, row.deleted, row.known, row.hash, row.changed = true, false, merged, hash, read.Number
	applied.Changed++
}

// believeOlder tells a lagging replica from a LeadGrid whose clock or data went back: what still looks older in a read
// that began when no replica can be that far behind any more is what LeadGrid holds.
func (m *Mirror) believeOlder(d *doubt, read *Read) bool {
	return d != nil && d.reason == reasonOlder && read.BeganAt.Sub(d.since) > 2*m.lag
}
