package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

func TestPromise8_AnOverdueSweepGetsALargerShare(t *testing.T) {
	t.Parallel()
	w := prepareWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 20})
	id := w.request(t, sweep.Full)
	if _, err := w.pool.Exec(t.Context(), `UPDATE sync_sweeps SET requested_at = now() - interval '3 hours'`); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	eventually.True(t, "the sweep's share to rise", func() bool {
		status, err := w.engine.Budget.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		share := status.Guaranteed[budget.Sweeps] // three intervals old, so two late
		return share > 0.29 && share < 0.31
	})
	w.ended(t, id)
}

// Not one step of the sweep can end while LeadGrid is silent.
func TestASweepMakesRoomForAStop(t *testing.T) {
	t.Parallel()
	silent := leadgridtest.Settings{Faults: leadgridtest.Faults{HangBefore: 1, HangFor: time.Hour}}
	w := prepareWorld(t, leadgridtest.Options{Settings: silent}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 20, Notes: 20})
	id := w.request(t, sweep.Full)
	ctx, terminate := context.WithCancel(t.Context())
	if err := w.engine.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the sweep to ask LeadGrid", func() bool { return len(w.Ledger()) > 0 })
	terminate()
	<-w.engine.River.Stopped()
	w.stop(t)
	var madeRoom bool // as against being cut off, when River has waited long enough
	err := w.pool.QueryRow(t.Context(), `SELECT coalesce(metadata->>'snoozes', '0') <> '0' FROM leadgrid_queue.river_job
		WHERE kind = 'leadgrid_sweep'`).Scan(&madeRoom)
	if s := w.load(t, id); err != nil || !madeRoom || s.State != sweep.Running {
		t.Fatalf("the sweep is %s and its job came back by itself: %t (%v)", s.State, madeRoom, err)
	}

	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	w.renew(t)
	w.start(t)
	if s := w.ended(t, id); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

func TestASweepThatNobodyWorksOnHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	w := prepareWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 5})
	older := w.request(t, sweep.Full)
	for what, spoil := range map[string]string{
		"was cancelled": `UPDATE leadgrid_queue.river_job SET state = 'cancelled', finalized_at = now()`,
		"was deleted":   `DELETE FROM leadgrid_queue.river_job`,
		"keeps failing": `UPDATE leadgrid_queue.river_job SET state = 'retryable', scheduled_at = now() + interval '1 hour'`,
	} {
		if _, err := w.pool.Exec(t.Context(), spoil+` WHERE (args->>'sweep')::bigint = $1`, older); err != nil {
			t.Fatal(err)
		}
		newer := w.request(t, sweep.Full)
		if s := w.load(t, older); s.State != sweep.Superseded {
			t.Errorf("a sweep whose job %s is %s", what, s.State)
		}
		older = newer
	}
	last := w.request(t, sweep.Full) // waits for the one before it, which somebody does work on
	w.start(t)
	for _, id := range []int64{older, last} {
		if s := w.ended(t, id); s.State != sweep.Done {
			t.Errorf("sweep %d ended as %s: %v", id, s.State, s.Message)
		}
	}
}

// A note, link or stage is missing, and before a second read can say so, what it belonged to is removed as well: that says 404
// from then on, and can settle nothing.
func TestADoubtIsNotAskedAboutForEver(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"notes", "dossier_contacts", "stages"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var watch atomic.Pointer[func(leadgridtest.Request)]
			w := newWorld(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) (none leadgridtest.Fault) {
				if watch := watch.Load(); watch != nil {
					(*watch)(r)
				}
				return none
			}}, jobs.Config{})
			w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 3})
			dossier, contact := w.DossierIDs()[0], w.ContactIDs()[0]
			note, err := w.AddNote(dossier, "Called", true)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Link(dossier, contact, "other", false); err != nil {
				t.Fatal(err)
			}
			flow, stages := w.CreateFlow("Other", "sales", false, leadgridtest.Stage{Name: "One"}, leadgridtest.Stage{Name: "Two"})
			w.sync(t)

			remove, then, after := func() error { return w.RemoveNote(dossier, note) }, func() error { return w.RemoveDossier(dossier) }, "notes.list"
			switch kind {
			case "dossier_contacts":
				remove, after = func() error { return w.Unlink(dossier, contact) }, "links.list"
			case "stages":
				remove, then, after = func() error { return w.RemoveStage(flow, stages[0]) }, func() error { return w.RemoveFlow(flow) }, "flows.list"
			}
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			var shown, gone sync.Once
			read := make(chan struct{})
			see := func(r leadgridtest.Request) {
				select {
				case <-read: // its answer is on the way, and this is a later request
					gone.Do(func() {
						if err := then(); err != nil {
							t.Error(err)
						}
					})
				default:
					if r.Operation == after && (after == "flows.list" || r.IDs[0] == dossier) {
						shown.Do(func() { close(read) })
					}
				}
			}
			watch.Store(&see)
			if s := w.sync(t); s.State != sweep.Done {
				t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
			}
			w.sync(t)
			w.wantEqual(t, oracle.Options{})
		})
	}
}

// For a moment, while a full sweep reads the links or notes of dossiers, or the stages of flows, another organization is behind
// the key: everything is 404 then, and nothing of that may be believed.
func TestPromise6_AnotherOrganizationForAMoment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		operation string
		requests  int32 // after which it is the right one again; 0 for when the mistake has been noticed
	}{{"links.list", 3}, {"notes.list", 3}, {"stages.list", 3}, {"links.list", 0}, {"notes.list", 0}, {"stages.list", 0}} {
		t.Run(fmt.Sprint(test.operation, " ", test.requests), func(t *testing.T) {
			t.Parallel()
			var w *world
			var other *leadgridtest.Organization
			var seen atomic.Int32
			w = prepareWorld(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) (none leadgridtest.Fault) {
				if r.Operation == test.operation {
					switch n := seen.Add(1); {
					case n == 1:
						w.SetKey(w.Key(), other)
					case n-1 == test.requests:
						w.SetKey(w.Key(), w.Organization)
					}
				}
				return none
			}}, jobs.Config{ProbeEvery: 50 * time.Millisecond})
			w.Seed(leadgridtest.Size{Dossiers: 20, Contacts: 20, Links: 30, Notes: 60})
			other = w.NewOrganization()
			other.Seed(leadgridtest.Size{Dossiers: 5, Contacts: 5})
			w.start(t)
			id := w.request(t, sweep.Full)
			eventually.True(t, "the other organization to be asked", func() bool { return seen.Load() > 0 })
			eventually.True(t, "the sweep to end", func() bool {
				if pauses, err := access.Pauses(t.Context(), w.pool); err == nil && len(pauses) > 0 {
					w.SetKey(w.Key(), w.Organization)
					if err := w.engine.Gate.ProbeNow(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				return w.load(t, id).Ended()
			})
			if s := w.load(t, id); s.State != sweep.Done {
				t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
			}
			w.wantEqual(t, oracle.Options{})
		})
	}
}

func (w *world) request(t *testing.T, kind sweep.Kind, resources ...string) int64 {
	t.Helper()
	return w.requestSweep(t, kind, resources, false)
}

// Whoever asks again before a sweep has begun is served by that one: interrupted syncs must not pile up.
func TestWhatWaitsIsNotAskedForTwice(t *testing.T) {
	t.Parallel()
	w := prepareWorld(t, leadgridtest.Options{}, jobs.Config{})
	part := w.request(t, sweep.Full, "links")
	first := w.request(t, sweep.Full)
	if first == part {
		t.Fatal("a sweep of links serves who asks for all")
	}
	for what, test := range map[string]struct {
		id   int64
		same bool
	}{
		"the same":                {w.request(t, sweep.Full), true},
		"a part of it":            {w.request(t, sweep.Full, "notes"), true},
		"with deletions accepted": {w.requestAccepting(t), false},
		"scheduled":               {w.request(t, sweep.Scheduled), false},
	} {
		if (test.id == first) != test.same {
			t.Errorf("%s is sweep %d, asked for after sweep %d", what, test.id, first)
		}
	}
	if _, err := w.pool.Exec(t.Context(), `UPDATE sync_sweeps SET state = 'running' WHERE id = $1`, first); err != nil {
		t.Fatal(err)
	}
	if id := w.request(t, sweep.Full); id == first {
		t.Error("a sweep that has begun serves who asks now")
	}
}

// requestAccepting asks for a full sweep as `worker sync --accept-deletions` does.
func (w *world) requestAccepting(t *testing.T) int64 {
	t.Helper()
	return w.requestSweep(t, sweep.Full, nil, true)
}

func (w *world) requestSweep(t *testing.T, kind sweep.Kind, resources []string, acceptDeletions bool) (id int64) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) (err error) {
		id, err = jobs.RequestSweep(t.Context(), tx, w.engine.River, kind, resources, acceptDeletions)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) load(t *testing.T, id int64) *sweep.Sweep {
	t.Helper()
	s, err := sweep.Load(t.Context(), w.pool, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) ended(t *testing.T, id int64) (s *sweep.Sweep) {
	t.Helper()
	eventually.True(t, "the sweep to end", func() bool {
		s = w.load(t, id)
		return s.Ended()
	})
	return s
}

// asked counts the requests for links and notes, by dossier and what is asked for, since the ledger had n entries.
func (w *world) asked(n int) map[string]int {
	counts := make(map[string]int)
	for _, request := range w.Ledger()[n:] {
		if request.Operation == "links.list" || request.Operation == "notes.list" {
			counts[request.Operation+" "+request.IDs[0]]++
		}
	}
	return counts
}

func TestScheduledSweepsReadWhereChangeIsLikely(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 40, Contacts: 10})
	ids, contact := w.DossierIDs(), w.ContactIDs()[0]
	chatty, linked := ids[0], ids[1]
	for n := range 250 {
		if _, err := w.AddNote(chatty, fmt.Sprint("note ", n), true); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.UpdateDossier(linked, leadgridtest.Fields{"email": "ann@example.com"}))
	must(w.UpdateContact(contact, leadgridtest.Fields{"email": "Ann@example.com"}))
	scheduled := func() map[string]int {
		t.Helper()
		before := len(w.Ledger())
		if s := w.ended(t, w.request(t, sweep.Scheduled)); s.State != sweep.Done {
			t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
		}
		return w.asked(before)
	}
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}

	// Nothing has changed: one dossier's links and one's notes bring the rotation round in a week.
	if asked := scheduled(); len(asked) != 2 {
		t.Errorf("a sweep of 40 unchanged dossiers asked for links and notes of %v", asked)
	}

	// No event tells of these: a note and an edit in a dossier that changed, and a link.
	_, err := w.AddNote(chatty, "one more", true)
	must(err)
	must(w.EditNote(chatty, w.NoteIDs(chatty)[3], "edited"))
	must(w.UpdateDossier(chatty, leadgridtest.Fields{"role": "busy"}))
	must(w.Link(linked, contact, "champion", false))
	asked := scheduled()
	if n := asked["notes.list "+chatty]; n != 1 {
		t.Errorf("%d requests for what was added to 250 notes, want 1", n)
	}
	w.wantEqual(t, oracle.Options{Tables: []string{"dossiers", "contacts", "dossier_contacts"}})
	differences, err := oracle.Differences(t.Context(), w.pool, oracle.Truth(w.Snapshot()), oracle.Options{Tables: []string{"notes"}})
	if must(err); len(differences) != 1 {
		t.Errorf("%d differences in notes, want the edited one alone: %v", len(differences), differences)
	}
	w.wantFreshAsOfOldestRead(t)

	// Once its turn comes, the edit is seen.
	_, err = w.pool.Exec(t.Context(), `
		WITH swept AS (UPDATE sync_lists SET keys = array_replace(keys, hashtextextended($1, 0), 0))
		INSERT INTO sync_reads (kind, id, observation, began_at)
		SELECT kind, id, observation, began_at - interval '8 days' FROM sync_last_reads WHERE kind = 'complete notes' AND id = $1
		ON CONFLICT (kind, id) DO UPDATE SET began_at = excluded.began_at`, chatty)
	must(err)
	if asked := scheduled(); asked["notes.list "+chatty] != 3 {
		t.Errorf("%d requests for all of 251 notes, want 3", asked["notes.list "+chatty])
	}
	w.wantEqual(t, oracle.Options{})
}

// LeadGrid has no GET for a note: one whose event does not say of which dossier it is is found by reading all notes.
func TestANoteOfAnUnknownDossierBringsTheNotesForward(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 3, Links: 3, Notes: 3})
	w.sync(t)
	look := func() {
		t.Helper()
		inserted, err := w.engine.River.Insert(t.Context(), tick{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		eventually.True(t, "the look to end", func() bool {
			return count(t, w.pool, fmt.Sprintf(`SELECT count(*) FROM leadgrid_queue.river_job WHERE id = %d AND finalized_at IS NOT NULL`, inserted.Job.ID)) == 1
		})
	}
	asked := func() int64 { return count(t, w.pool, `SELECT count(*) FROM sync_sweeps WHERE resources = '{notes}'`) }
	look()
	if n := asked(); n != 0 {
		t.Fatalf("%d sweeps of notes before any event", n)
	}
	if _, err := w.AddNote(w.DossierIDs()[0], "Called", true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pool.Exec(t.Context(), `INSERT INTO webhook_events (digest, id, type, flush) VALUES ('x', 'evt', 'note.created', nextval('observations'))`); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the notes to be asked for", func() bool { look(); return asked() == 1 })
	eventually.True(t, "the notes to be read", func() bool {
		return count(t, w.pool, `SELECT count(*) FROM sync_sweeps WHERE state <> 'done'`) == 0
	})
	w.wantEqual(t, oracle.Options{})
	look()
	if n := asked(); n != 1 {
		t.Errorf("%d sweeps of notes for one event", n)
	}
}

// wantFreshAsOfOldestRead checks that links and notes claim to be complete as of no later than any dossier's were read.
func (w *world) wantFreshAsOfOldestRead(t *testing.T) {
	t.Helper()
	var tooFresh int
	err := w.pool.QueryRow(t.Context(), `
		SELECT count(*) FROM sync_freshness f JOIN sync_last_reads r ON r.kind = 'complete ' || f.table_name
		WHERE f.complete_as_of > r.began_at OR f.complete_as_of > (SELECT complete_as_of FROM sync_freshness WHERE table_name = 'dossiers')`).
		Scan(&tooFresh)
	if err != nil || tooFresh > 0 {
		t.Errorf("links or notes are said to be complete later than %d reads of theirs (%v)", tooFresh, err)
	}
}
