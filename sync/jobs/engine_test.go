package jobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/simulate"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// world is a LeadGrid, a database and an engine between them.
type world struct {
	*leadgridtest.Server
	pool   *pgxpool.Pool
	engine *jobs.Engine
	config jobs.Config
}

func newWorld(t *testing.T, options leadgridtest.Options, config jobs.Config) *world {
	t.Helper()
	w := prepareWorld(t, options, config)
	w.start(t)
	return w
}

// prepareWorld leaves it to the test to start the engine.
func prepareWorld(t *testing.T, options leadgridtest.Options, config jobs.Config) *world {
	t.Helper()
	w := &world{Server: leadgridtest.New(options), pool: pgtest.New(t)}
	t.Cleanup(w.Close)
	api, err := leadgridapi.New(w.URL(), w.Key())
	if err != nil {
		t.Fatal(err)
	}
	config.Pool, config.QueueSchema, config.API, config.NoSchedule = w.pool, pgtest.Schemas.Queue, api, true
	if testing.Verbose() {
		config.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if config.Lag == 0 {
		config.Lag = 50 * time.Millisecond
	}
	w.config = config
	w.renew(t)
	return w
}

// renew takes a new engine, as a new process would.
func (w *world) renew(t *testing.T) {
	t.Helper()
	var err error
	if w.engine, err = jobs.New(w.config); err != nil {
		t.Fatal(err)
	}
}

func (w *world) start(t *testing.T) {
	t.Helper()
	if err := w.engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop(t) })
}

func (w *world) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.engine.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// sync asks for a full sweep, of everything or of these resources, and waits until it has ended.
func (w *world) sync(t *testing.T, resources ...string) *sweep.Sweep {
	t.Helper()
	return w.ended(t, w.request(t, sweep.Full, resources...))
}

func (w *world) wantEqual(t *testing.T, options oracle.Options) {
	t.Helper()
	differences, err := oracle.Differences(t.Context(), w.pool, oracle.Truth(w.Snapshot()), options)
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range differences {
		t.Error(difference)
	}
}

func TestPromise6_EqualAfterASync(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 250, Contacts: 300, Links: 300, Notes: 700, Odd: 0.05})
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

// LeadGrid serves ten rows a page, and says in meta that it serves what was asked for.
func TestPromise6_PagesSmallerThanTold(t *testing.T) {
	t.Parallel()
	for _, total := range []string{"exact", "drifting", "missing"} {
		t.Run(total, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{
				Habits: leadgridtest.Habits{MaxPerPage: 10, MetaPerPage: "asked", MetaTotal: total},
			}}, jobs.Config{})
			w.Seed(leadgridtest.Size{Dossiers: 12, Contacts: 35, Links: 10, Notes: 30})
			for n := range 25 {
				if _, err := w.AddNote(w.DossierIDs()[0], fmt.Sprintf("Called %d times", n), true); err != nil {
					t.Fatal(err)
				}
			}
			if s := w.sync(t); s.State != sweep.Done {
				t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
			}
			tables := oracle.Options{}
			if total == "missing" { // nothing tells a short page of notes from the last one
				tables.Tables = []string{"flows", "stages", "dossiers", "contacts"}
			}
			w.wantEqual(t, tables)
		})
	}
}

// However few they are: a list that shows none of the rows that the mirror holds deletes none of them.
func TestPromise5_AllGoneIsNotBelieved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 4, Links: 3})
	w.sync(t)
	for id := range w.Snapshot()["contacts"] {
		if err := w.RemoveContact(id); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.sync(t); s.State != sweep.Stopped || s.Message == nil || !strings.Contains(*s.Message, "none of the 4 contacts") {
		t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
	}
	var names int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(full_name) FROM contacts WHERE _deleted_at IS NULL`).Scan(&names); err != nil || names != 4 {
		t.Errorf("%d contacts are left: %v", names, err)
	}
}

// A list that shares no id with the mirror is no better than an empty one, however often it is read.
func TestPromise5_AllReplacedIsNotBelieved(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"dossiers", "contacts", "flows"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
			w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 3})
			w.sync(t)
			before := w.ids(t, kind)
			for _, id := range before {
				w.replace(t, kind, id)
			}
			for range 2 {
				s := w.sync(t)
				if s.State != sweep.Stopped || s.Message == nil || !strings.Contains(*s.Message, fmt.Sprintf("none of the %d %s", len(before), kind)) {
					t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
				}
				if after := w.ids(t, kind); !slices.Equal(before, after) {
					t.Errorf("the live %s were %v and are %v", kind, before, after)
				}
			}
			if s := w.ended(t, w.requestAccepting(t)); s.State != sweep.Done {
				t.Fatalf("the sweep ended as %s: %v", s.State, *s.Message)
			}
			w.wantEqual(t, oracle.Options{})
		})
	}
}

// ids gives the ids of a table's live rows.
func (w *world) ids(t *testing.T, table string) []string {
	t.Helper()
	rows, err := w.pool.Query(t.Context(), `SELECT id FROM `+table+` WHERE _deleted_at IS NULL ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// replace puts another object in the place of one, at LeadGrid.
func (w *world) replace(t *testing.T, kind, id string) {
	t.Helper()
	var err error
	switch kind {
	case "dossiers":
		if err = w.RemoveDossier(id); err == nil {
			_, err = w.CreateDossier(leadgridtest.Fields{"type": "sales", "name": "Another"})
		}
	case "contacts":
		if err = w.RemoveContact(id); err == nil {
			_, err = w.CreateContact(leadgridtest.Fields{"kind": []string{"person"}, "full_name": "Another"})
		}
	case "flows":
		if err = w.RemoveFlow(id); err == nil {
			w.CreateFlow("Another", "sales", false)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What a sweep stopped at stays, however much there is beside it later, until it is accepted.
func TestPromise5_MissingIsHeldUntilAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Contacts: 120})
	w.sync(t)
	gone := w.ids(t, "contacts")[:60]
	for _, id := range gone {
		if err := w.RemoveContact(id); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.sync(t); s.State != sweep.Stopped || !s.Progress.Breaker {
		t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
	}
	w.Seed(leadgridtest.Size{Contacts: 1500}) // so that 60 are less than a twentieth
	if s := w.sync(t); s.State != sweep.Stopped || s.Message == nil || !strings.Contains(*s.Message, "60 contacts are still missing") {
		t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
	}
	if live := w.ids(t, "contacts"); !slices.Contains(live, gone[0]) {
		t.Error("a contact was marked as deleted that an earlier sweep had stopped at")
	}
	if s := w.ended(t, w.requestAccepting(t)); s.State != sweep.Done {
		t.Fatalf("the sweep ended as %s: %v", s.State, *s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

// Who asks for links alone is told of dossiers that are gone, and not that all is equal.
func TestPromise6_LinksOfAGoneDossierAreNotCalledEqual(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 3, Links: 3, Notes: 3})
	w.sync(t)
	if err := w.RemoveDossier(w.DossierIDs()[0]); err != nil {
		t.Fatal(err)
	}
	if s := w.sync(t, "links", "notes"); s.State != sweep.Stopped || s.Message == nil || !strings.Contains(*s.Message, "no longer has") {
		t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
	}
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("the sweep ended as %s: %v", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

func TestPromise6_ThinListsClearNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{ListOmits: leadgridtest.ThinRows},
	}}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 30, Contacts: 40, Links: 30, Notes: 20})
	for range 2 {
		before := len(w.Ledger())
		if s := w.sync(t); s.State != sweep.Done {
			t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
		}
		w.wantEqual(t, oracle.Options{})
		asked := 0
		for _, request := range w.Ledger()[before:] {
			if strings.Contains(request.Path, "/contacts/") {
				asked++
			}
		}
		if asked > 40+4 { // a few to compare the list with, and to prove the organization by
			t.Errorf("%d requests for 40 contacts, one by one", asked)
		}
	}
}

// LeadGrid leaves nulls out, so that a field which the list hides may be missing in the GETs that are compared with it as well. That
// it spells out the null of a field that nobody knows shows nothing.
func TestPromise6_AFieldThatOnlyAnotherRowHasIsNotTakenForNull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{ListOmits: []string{"contacts.notes"}, OmitNulls: true, UnknownFields: true},
	}}, jobs.Config{})
	for i := range 9 {
		contact := leadgridtest.Fields{"full_name": fmt.Sprintf("Ana Peeters %d", i)}
		if i == 4 { // neither the first nor the last, which are compared
			contact["notes"] = "Prefers to be called in the morning"
		}
		if _, err := w.CreateContact(contact); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

func TestPromise12_OneObjectThatFailsDoesNotHoldTheSyncUp(t *testing.T) {
	t.Parallel()
	var poison atomic.Value
	poison.Store("")
	w := newWorld(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		if id := poison.Load().(string); id != "" && r.Path != "" && strings.Contains(r.Path, id+"/notes") {
			return leadgridtest.ErrorBefore
		}
		return ""
	}}, jobs.Config{Pause: time.Millisecond})
	w.Seed(leadgridtest.Size{Dossiers: 20, Contacts: 10, Links: 10, Notes: 40})
	worst := slices.Min(w.DossierIDs()) // it is read first, and alone
	poison.Store(worst)

	s := w.sync(t)
	if s.State != sweep.Stopped || s.Message == nil || !strings.Contains(*s.Message, "notes "+worst) {
		t.Fatalf("sweep ended as %s: %v, want it to stop and name the dossier whose notes LeadGrid cannot give", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{Tables: []string{"flows", "stages", "dossiers", "contacts", "dossier_contacts"}})

	poison.Store("")
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

func TestPromise6_EqualAfterASyncWithAwkwardHabits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{
			IDs: "awkward", HideArchived: true, ListOmits: leadgridtest.ThinRows, RetryAfter: "date", OmitNulls: true,
			UnknownFields: true, Timestamps: "mixed",
		},
		Faults: leadgridtest.Faults{ErrorBefore: 0.02, Truncated: 0.02, RateLimited: 0.002},
	}}, jobs.Config{Pause: time.Millisecond})
	w.Seed(leadgridtest.Size{Dossiers: 130, Contacts: 120, Links: 150, Notes: 200, Odd: 0.05})
	w.Stir(20, "dossier.archive")
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	w.wantEqual(t, oracle.Options{})
}

func TestPromise7_EqualFromEventsAlone(t *testing.T) {
	t.Parallel()
	for name, habits := range map[string]leadgridtest.Habits{
		"whole payloads":  {},
		"ids alone":       {WebhookData: "ids", Redelivery: "new-id", UpdatedOn: []string{"field"}},
		"nested payloads": {WebhookData: "nested", UnknownEvents: true, Timestamps: "mixed"},
		// So far behind that reading at once, however slow the machine, is reading too early.
		"replicas lag": {ReplicaLag: 4 * time.Second, Omits: []string{"dossiers.updated_at"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{
				Habits: habits,
				Faults: leadgridtest.Faults{
					WebhookDoubled: 0.4, WebhookReordered: 0.4, WebhookDelayed: 0.3, WebhookDelay: 200 * time.Millisecond,
				},
				Limits: leadgridtest.Limits{WebhookConcurrency: 4, WebhookBackoff: 10 * time.Millisecond},
			}}, jobs.Config{Lag: habits.ReplicaLag + 200*time.Millisecond})
			w.Seed(leadgridtest.Size{Dossiers: 30, Contacts: 30, Links: 30, Notes: 40})
			w.sync(t)
			w.receive(t)

			w.Stir(150, "dossier.create", "dossier.update", "dossier.move", "dossier.archive", "dossier.restore", "note.add")
			w.followed(t)
			w.wantEqual(t, oracle.Options{Tables: []string{"dossiers", "stages", "notes", "dossier_contacts"}, Ignore: habits.Omits})
			w.wantHistory(t)
		})
	}
}

// receive has LeadGrid's webhooks sent to a receiver.
func (w *world) receive(t *testing.T) {
	t.Helper()
	receiver, err := simulate.NewReceiver(w.pool, pgtest.Schemas.Queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(receiver.Close)
	w.RegisterWebhook(receiver.URL, simulate.Secret)
}

// followed waits until every event has been sent, processed and rechecked.
func (w *world) followed(t *testing.T) {
	t.Helper()
	if err := w.DrainWebhooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "every event to be processed and rechecked", func() bool {
		var left int
		err := w.pool.QueryRow(t.Context(), `
			SELECT count(*) FROM leadgrid_queue.river_job
			WHERE kind IN ('leadgrid_events', 'leadgrid_recheck', 'leadgrid_list') AND state <> 'completed'`).Scan(&left)
		if err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
}

// A dossier that was removed, and is put back as it was before its last change, is back, with what it holds: after a sync, and
// after its event.
func TestPromise6_DossierThatIsPutBackAsItWas(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"sync", "scheduled sweep", "event"} {
		t.Run(by, func(t *testing.T) {
			w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
			w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 3, Links: 6, Notes: 9})
			id := w.DossierIDs()[0]
			putBack, err := w.BackUpDossier(id)
			if err == nil {
				err = w.UpdateDossier(id, leadgridtest.Fields{"company": "Later"})
			}
			if err != nil {
				t.Fatal(err)
			}
			w.sync(t)
			if err := w.RemoveDossier(id); err != nil {
				t.Fatal(err)
			}
			w.sync(t)
			w.wantEqual(t, oracle.Options{})
			switch by {
			case "sync", "scheduled sweep":
				if err := putBack(); err != nil {
					t.Fatal(err)
				}
				kind := sweep.Full
				if by == "scheduled sweep" {
					kind = sweep.Scheduled
				}
				if s := w.ended(t, w.request(t, kind)); s.State != sweep.Done {
					t.Fatalf("the sweep ended %s: %v", s.State, s.Message)
				}
			case "event":
				w.receive(t)
				if err := putBack(); err != nil {
					t.Fatal(err)
				}
				w.followed(t)
			}
			w.wantEqual(t, oracle.Options{Ignore: []string{"contacts.dossier_count"}})
		})
	}
}

// What an event pointed to, and the key might not read, is read once it may.
func TestPromise7_WhatTheKeyMightNotReadIsReadOnceItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 3, Contacts: 3, Links: 3, Notes: 3})
	w.sync(t)
	w.receive(t)
	w.SetKey(w.Key(), w.Organization, slices.DeleteFunc(slices.Clone(leadgridtest.Scopes), func(scope string) bool { return scope == "notes:read" })...)
	for range 2 {
		if _, err := w.AddNote(w.DossierIDs()[0], "Called", true); err != nil {
			t.Fatal(err)
		}
		if err := w.DrainWebhooks(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually.True(t, "the event to be processed", func() bool {
			return count(t, w.pool, `SELECT count(*) FROM sync_flushes WHERE done_at IS NULL`) == 0
		})
	}
	if n := count(t, w.pool, `SELECT count(*) FROM leadgrid_queue.river_job WHERE kind = 'leadgrid_list' AND finalized_at IS NULL`); n != 1 {
		t.Errorf("%d jobs wait for the scope, want one for the dossier's notes", n)
	}
	w.SetKey(w.Key(), w.Organization, leadgridtest.Scopes...)
	if err := w.engine.Gate.ProbeNow(t.Context()); err != nil { // instead of within a minute
		t.Fatal(err)
	}
	eventually.True(t, "the notes to be read", func() bool {
		return count(t, w.pool, `WITH woken AS (
				UPDATE leadgrid_queue.river_job SET state = 'available', scheduled_at = now() WHERE kind = 'leadgrid_list' AND state = 'scheduled')
			SELECT count(*) FROM leadgrid_queue.river_job WHERE kind = 'leadgrid_list' AND finalized_at IS NULL`) == 0
	})
	w.followed(t)
	w.wantEqual(t, oracle.Options{Tables: []string{"dossiers", "notes", "dossier_contacts"}})
}

// wantHistory checks that every stage_changed event is in the stage history, exactly once.
func (w *world) wantHistory(t *testing.T) {
	t.Helper()
	var events, history int
	err := w.pool.QueryRow(t.Context(), `
		SELECT (SELECT count(DISTINCT id) FROM webhook_events WHERE type = 'dossier.stage_changed' AND stage_id IS NOT NULL),
		       (SELECT count(*) FROM dossier_stage_history WHERE source = 'event')`).Scan(&events, &history)
	if err != nil {
		t.Fatal(err)
	}
	if events != history {
		t.Errorf("%d stage changes in the history, want %d", history, events)
	}
}

// A contact that a command deletes is marked as deleted without anybody's asking for a sweep.
func TestPromise5_DeletedByCommandIsSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{Writeback: writeback.Options{Pause: 50 * time.Millisecond}})
	w.Seed(leadgridtest.Size{Dossiers: 5, Contacts: 10, Links: 10})
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	if _, err := w.pool.Exec(t.Context(), `SELECT delete_contact(id) FROM contacts LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the contact to be marked as deleted", func() (deleted bool) {
		if err := w.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM contacts WHERE _deleted_at IS NOT NULL)`).Scan(&deleted); err != nil {
			t.Fatal(err)
		}
		return deleted
	})
	w.wantEqual(t, oracle.Options{Tables: []string{"contacts", "dossier_contacts"}})

	// A sweep of contacts does not put off the scheduled one, which is due since the last of everything was long ago.
	if _, err := w.pool.Exec(t.Context(), `UPDATE sync_sweeps SET finished_at = now() - interval '2 hours' WHERE kind = 'full'`); err != nil {
		t.Fatal(err)
	}
	if _, err := w.engine.River.Insert(t.Context(), tick{}, nil); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the scheduled sweep to be asked for", func() (asked bool) {
		err := w.pool.QueryRow(t.Context(),
			`SELECT EXISTS (SELECT FROM sync_sweeps WHERE kind = 'scheduled' AND cardinality(resources) = $1)`, len(sweep.ResourceNames)).Scan(&asked)
		if err != nil {
			t.Fatal(err)
		}
		return asked
	})
}

// tick is the job that looks whether a sweep is due.
type tick struct{}

func (tick) Kind() string { return "leadgrid_tick" }
