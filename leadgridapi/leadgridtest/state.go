package leadgridtest

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// table holds the rows of one kind, in every order a list may have.
type table[R any] struct {
	slots   map[string]*slot[R]
	created order[R]
	changed order[R]
	classOf func(*R) int
	stored  int

	shuffling sync.Mutex // readers build the shuffled order when the first of them wants it
	shuffled  []*slot[R] // by hash; nil until then
}

func newTable[R any](classes int, classOf func(*R) int) *table[R] {
	return &table[R]{
		slots:   map[string]*slot[R]{},
		created: order[R]{which: 0, classes: classes},
		changed: order[R]{which: 1, classes: classes},
		classOf: classOf,
	}
}

// get returns the slot of a row that exists, or nil.
func (t *table[R]) get(id string) *slot[R] { return t.slots[id] }

// put stores a version of a row.
func (t *table[R]) put(id string, row *R) *slot[R] {
	s := t.slots[id]
	if s == nil {
		s = &slot[R]{id: id, row: row, class: t.classOf(row), hash: hash(id), number: t.stored}
		t.stored++
		t.slots[id] = s
		t.created.add(s)
		t.changed.add(s)
		if t.shuffled != nil {
			at, _ := slices.BinarySearchFunc(t.shuffled, s, byHash)
			t.shuffled = slices.Insert(t.shuffled, at, s)
		}
		return s
	}
	class := t.classOf(row)
	t.changed.remove(s)
	if class != s.class {
		t.created.count(s.at[0], s.class, -1)
		t.created.count(s.at[0], class, 1)
	}
	s.row, s.class = row, class
	t.changed.add(s)
	return s
}

func (t *table[R]) remove(id string) {
	s := t.slots[id]
	if s == nil {
		return
	}
	delete(t.slots, id)
	t.created.remove(s)
	t.changed.remove(s)
	if t.shuffled != nil {
		if at, found := slices.BinarySearchFunc(t.shuffled, s, byHash); found {
			t.shuffled = slices.Delete(t.shuffled, at, at+1)
		}
	}
	s.row = nil
}

// page returns up to limit slots after the first skip, in the order a habit names.
func (t *table[R]) page(f filter[R], habit string, skip, limit int, rng *rand.Rand) []*slot[R] {
	found := make([]*slot[R], 0, min(limit, 128))
	take := func(s *slot[R]) bool {
		if len(found) < limit {
			found = append(found, s)
		}
		return len(found) < limit
	}
	switch habit {
	case "newest":
		t.created.walk(f, skip, true, take)
	case "updated":
		t.changed.walk(f, skip, true, take)
	case "updated-oldest":
		t.changed.walk(f, skip, false, take)
	case "random":
		selected := classSet(f.classes)
		for _, s := range t.shuffle() {
			if !selected.has(s.class) || f.match != nil && !f.match(s) {
				continue
			}
			if skip > 0 {
				skip--
			} else if !take(s) {
				break
			}
		}
	case "unstable":
		var all []*slot[R]
		t.created.walk(f, 0, false, func(s *slot[R]) bool { all = append(all, s); return true })
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, s := range all[min(skip, len(all)):] {
			if !take(s) {
				break
			}
		}
	default:
		t.created.walk(f, skip, false, take)
	}
	return found
}

func (t *table[R]) shuffle() []*slot[R] {
	t.shuffling.Lock()
	defer t.shuffling.Unlock()
	if t.shuffled == nil {
		t.shuffled = make([]*slot[R], 0, len(t.slots))
		for _, s := range t.slots {
			t.shuffled = append(t.shuffled, s)
		}
		slices.SortFunc(t.shuffled, byHash)
	}
	return t.shuffled
}

// random returns some row, or nil when there is none.
func (t *table[R]) random(rng *rand.Rand) *slot[R] {
	if t.created.live == 0 {
		return nil
	}
	for {
		if s := t.created.rows[rng.IntN(len(t.created.rows))]; s != nil {
			return s
		}
	}
}

func byHash[R any](a, b *slot[R]) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.number, b.number))
}

func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return mix(h.Sum64())
}

// mix is splitmix64's last step: neighbours end far apart.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// state is all that one organization holds.
type state struct {
	dossiers *table[dossier]
	contacts *table[contact]
	flows    *table[flow]
	emails   map[string]string // lower-case e-mail to contact
}

func newState() *state {
	return &state{
		dossiers: newTable(len(dossierTypes)*len(dossierStatuses), dossierClass),
		contacts: newTable(len(pools)<<len(contactKinds), contactClass),
		flows:    newTable(len(dossierTypes), func(f *flow) int { return index(dossierTypes, f.typ) }),
		emails:   map[string]string{},
	}
}

// clone copies the state for a replica; the rows themselves are shared.
func (s *state) clone() *state {
	c := newState()
	copyTable(c.flows, s.flows)
	copyTable(c.dossiers, s.dossiers)
	copyTable(c.contacts, s.contacts)
	maps.Copy(c.emails, s.emails)
	return c
}

func copyTable[R any](to, from *table[R]) {
	for _, s := range from.created.rows {
		if s == nil {
			continue
		}
		c := *s
		to.slots[s.id] = &c
		to.created.add(&c)
	}
	for _, s := range from.changed.rows {
		if s != nil {
			to.changed.add(to.slots[s.id])
		}
	}
	to.stored = from.stored
}

// The lists of what is documented end in an empty text, which stands for everything else.
var (
	dossierTypes    = []string{"candidate", "sales", ""}
	dossierStatuses = []string{"active", "won", "lost", "archived", ""}
	pools           = []string{"in_pool", "expired", ""}
	contactKinds    = []string{"candidate", "prospect", "client", "supplier", "partner"}
	linkRoles       = []string{"primary", "hiring_manager", "decision_maker", "champion", "gatekeeper", "introducer", "other"}
)

func index(values []string, value string) int {
	if i := slices.Index(values, value); i >= 0 {
		return i
	}
	return len(values) - 1
}

func dossierClass(d *dossier) int {
	return index(dossierTypes, d.typ)*len(dossierStatuses) + index(dossierStatuses, d.status)
}

func contactClass(c *contact) int {
	bits := 0
	for _, kind := range c.kinds {
		if i := slices.Index(contactKinds, kind); i >= 0 {
			bits |= 1 << i
		}
	}
	return index(pools, c.pool)<<len(contactKinds) | bits
}

func (s *state) putContact(c *contact) {
	if old := s.contacts.get(c.id); old != nil && old.row.email != nil {
		s.forgetEmail(old.row)
	}
	s.contacts.put(c.id, c)
	if c.email != nil {
		if key := strings.ToLower(*c.email); s.emails[key] == "" {
			s.emails[key] = c.id
		}
	}
}

func (s *state) removeContact(id string) {
	old := s.contacts.get(id)
	if old == nil {
		return
	}
	s.forgetEmail(old.row)
	for _, l := range old.links {
		d := s.dossiers.get(l.dossierID)
		d.links = without(d.links, l)
	}
	s.contacts.remove(id)
}

func (s *state) forgetEmail(c *contact) {
	if c.email != nil && s.emails[strings.ToLower(*c.email)] == c.id {
		delete(s.emails, strings.ToLower(*c.email))
	}
}

func (s *state) removeDossier(id string) {
	old := s.dossiers.get(id)
	if old == nil {
		return
	}
	for _, l := range old.links {
		c := s.contacts.get(l.contactID)
		c.links = without(c.links, l)
	}
	s.dossiers.remove(id)
}

// putLink adds a link or replaces the one between the same two.
func (s *state) putLink(l *link) {
	d, c := s.dossiers.get(l.dossierID), s.contacts.get(l.contactID)
	for i, old := range d.links {
		if old.contactID == l.contactID {
			d.links = slices.Clone(d.links)
			d.links[i] = l
			c.links = append(without(c.links, old), l)
			return
		}
	}
	d.links = append(slices.Clip(d.links), l)
	c.links = append(slices.Clip(c.links), l)
}

func (s *state) removeLink(l *link) {
	d, c := s.dossiers.get(l.dossierID), s.contacts.get(l.contactID)
	d.links = without(d.links, l)
	c.links = without(c.links, l)
}

// without returns the links but the one between the same two, in a new slice.
func without(links []*link, gone *link) []*link {
	kept := make([]*link, 0, len(links))
	for _, l := range links {
		if l.dossierID != gone.dossierID || l.contactID != gone.contactID {
			kept = append(kept, l)
		}
	}
	return kept
}
