package leadgridtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Organization is one customer of LeadGrid: the data behind a key.
type Organization struct {
	server *Server
	id     string
	hooks  *hooks

	mu          sync.RWMutex
	active      bool       // has a plan with API access
	rng         *rand.Rand // makes ids
	fancy       *rand.Rand // makes up data: not disturbed by what the API creates
	state       *state
	cvs         map[string]CV // by dossier
	uploads     int
	events      int
	imagination *invention // for Stir

	replica *state // nil unless reads may lag
	pending []step // changes the replica has not seen
}

// CV is what is known of a stored CV.
type CV struct {
	SHA256 string // hex
	Size   int
}

// step is a change to the state, and when it was made.
type step struct {
	at    instant
	apply func(*state)
}

// ID is the organization's id, as its dossiers carry it.
func (o *Organization) ID() string { return o.id }

// SetPlan says whether the organization's plan has API access; without it every request is refused with 402.
func (o *Organization) SetPlan(active bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.active = active
}

// CV returns what is known of a dossier's CV.
func (o *Organization) CV(dossierID string) (CV, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	cv, ok := o.cvs[dossierID]
	return cv, ok
}

// change is one edit under way: everything it does happens at the same instant, and its webhooks leave when
// it is done.
type change struct {
	*Organization
	settings *settings
	now      instant
	events   []event
}

// edit runs one change under the lock. The function checks everything before it stores anything, so that an
// error leaves no trace.
func (o *Organization) edit(fn func(*change) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	set := o.server.settings.Load()
	now := o.server.opts.Now().Truncate(precision(set.Habits.Timestamps))
	c := &change{Organization: o, settings: set, now: instant(now.UnixMicro())}
	err := fn(c)
	o.hooks.send(c.events)
	return err
}

// alter makes an edit that nothing can be wrong with.
func (o *Organization) alter(fn func(*change)) {
	_ = o.edit(func(c *change) error { fn(c); return nil })
}

// do stores something, in the state now and in the replica later.
func (c *change) do(apply func(*state)) {
	apply(c.state)
	if c.replica != nil {
		c.pending = append(c.pending, step{c.now, apply})
	}
}

func (o *Organization) setReplica(wanted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !wanted:
		o.replica, o.pending = nil, nil
	case o.replica == nil:
		o.replica = o.state.clone()
	}
}

// view shows a read the state: the one now or, with a lag, the replica's as it was that long ago. A replica
// never goes back: what an earlier read saw, a later one sees too.
func (o *Organization) view(lag time.Duration, fn func(*state) error) error {
	if lag > 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.replica != nil {
			until := instant(o.server.opts.Now().Add(-lag).UnixMicro())
			n := 0
			for n < len(o.pending) && o.pending[n].at <= until {
				o.pending[n].apply(o.replica)
				n++
			}
			o.pending = append([]step(nil), o.pending[n:]...)
			return fn(o.replica)
		}
		return fn(o.state)
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	return fn(o.state)
}

// newID makes an id; the habit decides what it looks like.
func (o *Organization) newID(kind string) string {
	hi, lo := o.rng.Uint64(), o.rng.Uint64()
	switch o.server.Settings().Habits.IDs {
	case "short":
		const letters = "abcdefghijkmnpqrstuvwxyz23456789"
		var b [14]byte
		for i := range b {
			b[i] = letters[(hi>>(i%12*5)^lo>>(i*4))%uint64(len(letters))]
		}
		return kind[:3] + "_" + string(b[:])
	case "awkward":
		return fmt.Sprintf("%s/%x?#%%2F é+&", kind[:3], lo)
	}
	var b [16]byte
	for i := range 8 {
		b[i], b[i+8] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// Snapshot is a full copy of the truth: table, then id (dossier_id|contact_id for dossier_contacts), then
// field. Texts are string, numbers json.Number, times time.Time in UTC, kind is []string, and null is nil.
// Contacts carry their pool. Fields that the Omits habit hides and those nobody documented are not left
// out and not put in.
type Snapshot map[string]map[string]map[string]any

// Snapshot copies everything the organization holds.
func (o *Organization) Snapshot() Snapshot {
	o.mu.RLock()
	defer o.mu.RUnlock()
	all := Snapshot{}
	for _, table := range tables {
		all[table] = map[string]map[string]any{}
	}
	add := func(table, id string, each func(visit)) map[string]any {
		fields := map[string]any{}
		each(func(key string, value any) { fields[key] = plain(value) })
		all[table][id] = fields
		return fields
	}
	for id, s := range o.state.flows.slots {
		add(Flows, id, s.row.each)
		for i := range s.row.stages {
			stage := &s.row.stages[i]
			add(Stages, stage.id, func(v visit) { stage.each(id, v) })
		}
	}
	for id, s := range o.state.contacts.slots {
		fields := add(Contacts, id, func(v visit) { s.row.each(len(s.links), v) })
		fields["pool"] = nil
		if s.row.pool != "" {
			fields["pool"] = s.row.pool
		}
	}
	for id, s := range o.state.dossiers.slots {
		add(Dossiers, id, func(v visit) { s.row.each(o.id, v) })
		for _, l := range s.links {
			add(Links, l.dossierID+"|"+l.contactID, func(v visit) { l.each(o.state.contacts.get(l.contactID).row, v) })
		}
		for i := range s.notes {
			add(Notes, s.notes[i].id, func(v visit) { s.notes[i].each(id, v) })
		}
	}
	return all
}

// storeCV remembers a file and returns its path.
func (c *change) storeCV(dossierID string, content []byte) string {
	sum := sha256.Sum256(content)
	c.cvs[dossierID] = CV{SHA256: hex.EncodeToString(sum[:]), Size: len(content)}
	c.uploads++
	if c.settings.Habits.NewCVPath {
		return fmt.Sprintf("cvs/%s/%s/%d.pdf", c.id, dossierID, c.uploads)
	}
	return fmt.Sprintf("cvs/%s/%s/cv.pdf", c.id, dossierID)
}
