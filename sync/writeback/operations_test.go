package writeback_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// everything writes one command of each operation, and returns their ids.
func (w *rig) everything() (ids []string) {
	write := func(call string, args ...any) string {
		id := w.write(call, args...)
		ids = append(ids, id)
		return id
	}
	contact := write(`create_contact('Ann Peeters', email => 'ann@example.com', kind => '{candidate}')`)
	other := write(`create_contact('Bob Claes', phone => '+32 2 555 01 02')`)
	gone := write(`create_contact('Cid Maes', notes => 'leaves')`)
	dossier := write(`create_dossier('candidate', 'Ann Peeters', contact_id => $1)`, contact)
	deal := write(`create_dossier('sales', 'Acme', deal_size => 12500.50, deal_currency => 'EUR', cv => '%PDF-1.7 Acme')`)
	write(`update_dossier($1, '{"phone": "+32 2 555 01 00", "email": null}')`, dossier)
	write(`move_dossier($1, $2)`, dossier, w.stages[1])
	write(`upload_cv($1, '%PDF-1.7 Ann', 'ann.pdf')`, dossier)
	write(`link_contact($1, $2, 'champion', true)`, dossier, other)
	write(`link_contact($1, $2, 'other')`, deal, other)
	write(`unlink_contact($1, $2)`, deal, other)
	write(`add_note($1, 'Called', false)`, dossier)
	write(`update_contact($1, '{"city": "Gent", "kind": ["client", "partner"]}')`, other)
	write(`archive_dossier($1)`, deal)
	write(`restore_dossier($1, 'won')`, deal)
	write(`delete_contact($1)`, gone)
	return ids
}

// confirmed waits until all reads that follow commands are made.
func (w *rig) confirmed() {
	w.t.Helper()
	eventually.True(w.t, "the commands to be confirmed", func() bool {
		var open int
		w.scan(`SELECT count(*) FROM commands WHERE confirms > 0`, &open)
		return open == 0
	})
}

// wantEqual holds the mirror against LeadGrid, except for a contact who has gone.
func (w *rig) wantEqual(but string) {
	w.t.Helper()
	differences, err := oracle.Differences(w.t.Context(), w.pool, oracle.Truth(w.Snapshot()), oracle.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	var left string
	if but != "" {
		// None, if the proof behind the answer that made them was refused, and they were gone when they were read.
		w.scan(`SELECT coalesce(min(id), '') FROM contacts WHERE full_name = '`+but+`'`, &left)
		left = fmt.Sprintf("contacts %q: extra", left)
	}
	for _, difference := range differences {
		if difference != left {
			w.t.Error(difference)
		}
	}
}

// The twelve operations, under habits and faults of LeadGrid: all are carried out, and what they did is mirrored.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]leadgridtest.Settings{
		"as documented":     {},
		"thin answers":      {Habits: leadgridtest.Habits{WriteOmits: leadgridtest.ThinRows, ListOmits: leadgridtest.ThinRows, EmptyDeletes: true, OmitNulls: true}},
		"awkward ids":       {Habits: leadgridtest.Habits{IDs: "awkward", CreateMakesContact: true, Timestamps: "mixed", UnknownFields: true}},
		"lost answers":      {Faults: leadgridtest.Faults{ErrorAfter: 0.15, ResetAfter: 0.15, HangAfter: 0.1, Truncated: 0.15, HangFor: time.Second}},
		"not carried out":   {Faults: leadgridtest.Faults{ErrorBefore: 0.15, ResetBefore: 0.15, HangBefore: 0.1, BadGateway: 0.15, HangFor: time.Second}},
		"refused too often": {Faults: leadgridtest.Faults{RateLimited: 0.2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRig(t, leadgridtest.Options{})
			w.Change(func(s *leadgridtest.Settings) { *s = settings })
			w.start(options())
			for _, id := range w.everything() {
				w.done(id)
			}
			w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
			w.confirmed()
			w.wantEqual("Cid Maes") // whom it takes a sweep to mark
			w.sweep()
			w.wantEqual("")
			creates := map[string]int{}
			for _, create := range w.Creates() {
				if creates[create.Operation+create.Body]++; creates[create.Operation+create.Body] > 1 && create.Operation != "links.create" {
					t.Errorf("ran twice: %s %s", create.Operation, create.Body)
				}
			}
		})
	}
}

// A contact counts its dossiers, also when it was read for the last time before it got one.
func TestLinkIsCountedOnTheContact(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.start(options())
	contact := *w.done(w.write(`create_contact('Ann Peeters')`)).LeadGridID
	other := *w.done(w.write(`create_contact('Bob Claes')`)).LeadGridID
	w.confirmed()
	count := func(contact, want string) {
		t.Helper()
		var got string
		if w.scan(`SELECT dossier_count::text FROM contacts WHERE id = '`+contact+`'`, &got); got != want {
			t.Errorf("%s counts %s dossiers, not %s", contact, got, want)
		}
	}
	dossier := w.write(`create_dossier('candidate', 'Ann Peeters', contact_id => $1)`, contact)
	w.done(w.write(`link_contact($1, $2, 'other')`, dossier, other))
	w.confirmed()
	count(contact, "1")
	count(other, "1")
	w.done(w.write(`unlink_contact($1, $2)`, dossier, other))
	w.confirmed()
	count(other, "0")
}

func TestExpectedRefusesALostUpdate(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{Timestamps: "mixed"}}})
	w.start(options())
	id := *w.done(w.write(`create_dossier('sales', 'Acme', deal_size => 100, phone => '1', company => 'Acme')`)).LeadGridID
	w.done(w.write(`update_dossier($1, '{"phone": "2"}', '{"phone": "1", "deal_size": 100.0, "email": null}')`, id))
	var updated string
	w.scan(`SELECT _raw ->> 'updated_at' FROM dossiers`, &updated)
	w.done(w.write(`update_dossier($1, '{"phone": "3"}', jsonb_build_object('updated_at', $2::text))`, id, updated))

	row := w.settled(w.write(`update_dossier($1, '{"phone": "4"}', '{"phone": "2", "company": "Acme", "deal_size": 50}')`, id))
	if row.State != "refused" || *row.Error != `it is not as expected: deal_size is 100, not 50, phone is "3", not "2"` {
		t.Errorf("it is %s: %s", row.State, text(row.Error))
	}
	if got := w.Snapshot()["dossiers"][id]["phone"]; got != "3" {
		t.Errorf("the phone became %v", got)
	}
	if row := w.load(w.write(`create_contact('Ann')`)); row.State == "refused" {
		t.Error("another command was refused")
	}
}

// An update whose answer was lost, and that was carried out, finds its own values when it is sent again.
func TestExpectedAfterALostAnswer(t *testing.T) {
	t.Parallel()
	f := &faulty{operation: "dossiers.update", fault: leadgridtest.ResetAfter, times: 1}
	w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
	w.start(options())
	id := *w.done(w.write(`create_dossier('candidate', 'Ann', phone => '1')`)).LeadGridID
	if row := w.done(w.write(`update_dossier($1, '{"phone": "2"}', '{"phone": "1"}')`, id)); row.Attempts != 2 {
		t.Errorf("sent %d times", row.Attempts)
	}
}

// If somebody has changed it since, nobody knows whether the lost update was carried out: that is not a refusal.
func TestExpectedAfterALostAnswerAndAnotherChange(t *testing.T) {
	t.Parallel()
	f := &faulty{operation: "dossiers.update", fault: leadgridtest.ResetAfter, times: 1}
	var w *rig
	w = newRig(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		if r.Operation == "dossiers.get" && f.seen.Load() == 1 {
			if err := w.UpdateDossier(w.Creates()[0].ID, leadgridtest.Fields{"phone": "5"}); err != nil {
				t.Error(err)
			}
		}
		return f.onRequest(r)
	}})
	w.start(options())
	id := *w.done(w.write(`create_dossier('candidate', 'Ann', phone => '1')`)).LeadGridID
	row := w.settled(w.write(`update_dossier($1, '{"phone": "2"}', '{"phone": "1"}')`, id))
	if !row.Waiting || *row.Error != `it is not as expected: phone is "5", not "1"; an attempt before this may have been carried out` {
		t.Errorf("it is %s: %s", row.State, text(row.Error))
	}
}

func TestNullThatDidNotClearIsReported(t *testing.T) {
	t.Parallel()
	for _, habit := range []string{"honoured", "ignored"} {
		w := newRig(t, leadgridtest.Options{Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{PatchNull: habit}}})
		w.start(options())
		dossier := w.write(`create_dossier('candidate', 'Ann', phone => '1', company => 'Acme')`)
		update := w.write(`update_dossier($1, '{"phone": null, "company": null, "role": null, "city": "Gent"}')`, dossier)
		w.done(update)
		w.confirmed()
		want := "null"
		if habit == "ignored" {
			want = "LeadGrid did not clear company, phone"
		}
		if got := text(w.load(update).Error); got != want {
			t.Errorf("%s: the row says %q, want %q", habit, got, want)
		}
	}
}

func TestPausedSendsNothing(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	id := w.write(`create_contact('Ann')`)
	paused := options()
	paused.Paused = true
	stop := w.start(paused)
	requests := len(w.Ledger())
	var polled int64
	w.scan(`SELECT calls FROM (SELECT xact_commit AS calls FROM pg_stat_database WHERE datname = current_database()) s`, &polled)
	eventually.True(w.t, "the worker to look several times", func() bool {
		var calls int64
		w.scan(`SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`, &calls)
		return calls > polled+20
	})
	stop()
	if got := len(w.Ledger()); got != requests {
		t.Errorf("%d requests were sent", got-requests)
	}
	if row := w.load(id); row.State != "pending" || row.Attempts != 0 {
		t.Errorf("the command is %s after %d attempts", row.State, row.Attempts)
	}
	w.start(options())
	w.done(id)
}

func TestDependents(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.start(options())
	if _, err := w.CreateContact(leadgridtest.Fields{"full_name": "Ann", "email": "ann@example.com"}); err != nil {
		t.Fatal(err)
	}
	var contact, dossier, note, free string
	err := pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `
			WITH contact AS (SELECT create_contact('Ann', email => 'ann@example.com') AS id),
			dossier AS (SELECT create_dossier('candidate', 'Ann', contact_id => id) AS id FROM contact),
			note AS (SELECT add_note(id, 'Hello') AS id FROM dossier),
			free AS (SELECT create_dossier('candidate', 'Bob') AS id)
			SELECT contact.id, dossier.id, note.id, free.id FROM contact, dossier, note, free`).Scan(&contact, &dossier, &note, &free)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.done(free)
	for id, want := range map[string]string{
		contact: "LeadGrid has a contact with this e-mail already", dossier: "command " + contact + ", on which it depends, was refused",
		note: "command " + dossier + ", on which it depends, was refused",
	} {
		if row := w.settled(id); row.State != "refused" || !strings.HasPrefix(*row.Error, want) {
			t.Errorf("it is %s: %s; want it refused: %s", row.State, text(row.Error), want)
		}
	}
	if _, err := w.pool.Exec(t.Context(), `SELECT add_note($1, 'more')`, dossier); err == nil || !strings.Contains(err.Error(), "was refused") {
		t.Errorf("a note on what was refused: %v", err)
	}
}

// A key that LeadGrid refuses loses no command: they wait until there is a better one.
func TestARefusedKeyOnlyDelays(t *testing.T) {
	t.Parallel()
	for _, refuse := range []struct {
		name      string
		off, back func(w *rig)
	}{
		{"401", func(w *rig) { w.RevokeKey(w.Key()) }, func(w *rig) { w.SetKey(w.Key(), w.Organization) }},
		{"402", func(w *rig) { w.SetPlan(false) }, func(w *rig) { w.SetPlan(true) }},
		{"403", func(w *rig) { w.SetKey(w.Key(), w.Organization, "contacts:read", "flows:read") }, func(w *rig) { w.SetKey(w.Key(), w.Organization) }},
	} {
		t.Run(refuse.name, func(t *testing.T) {
			t.Parallel()
			w := newRig(t, leadgridtest.Options{})
			w.start(options())
			w.done(w.write(`create_contact('Bob')`)) // so that the key is proved, and it is a command that is refused
			refuse.off(w)
			id := w.write(`create_contact('Ann')`)
			eventually.True(w.t, "the refusal", func() bool { return w.load(id).Error != nil })
			if row := w.load(id); row.State == "refused" || row.State == "unknown" || row.Attempts > 1 {
				t.Errorf("it is %s after %d attempts", row.State, row.Attempts)
			}
			refuse.back(w)
			if row := w.done(id); row.Attempts != 1 {
				t.Errorf("%d attempts were counted", row.Attempts)
			}
		})
	}
}

// A key of another organization writes nothing there, even if it takes the place of one that has just been proved.
func TestAnotherOrganizationGetsNothing(t *testing.T) {
	t.Parallel()
	var key atomic.Value
	w := newRig(t, leadgridtest.Options{})
	key.Store(w.Key())
	w.key = func() string { return key.Load().(string) }
	w.ask(30*time.Second, 50*time.Millisecond)
	w.start(options())
	w.done(w.write(`create_contact('Ann')`))
	before := len(w.Creates())
	w.SetKey("lg_live_other", w.NewOrganization())
	key.Store("lg_live_other")
	id := w.write(`create_contact('Bob')`)
	eventually.True(w.t, "the refusal", func() bool { return w.load(id).Error != nil })
	if n := len(w.Creates()); n != before {
		t.Error("something was created in another organization")
	}
	pauses, err := access.Pauses(t.Context(), w.pool)
	if err != nil || len(pauses) != 1 || pauses[0].Reason != access.OtherOrganization {
		t.Errorf("paused for %v, %v", pauses, err)
	}
}

func TestPromise14_LogsNameNobody(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{ErrorAfter: 0.2, RateLimited: 0.05} })
	var logs bytes.Buffer
	o := options()
	o.Log = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	stop := w.start(o)
	for _, id := range w.everything() {
		w.done(id)
	}
	w.settled(w.write(`create_contact('Ann Peeters', email => 'new@example.com')`))
	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	w.confirmed()
	stop()
	for _, personal := range []string{"Ann", "Peeters", "example.com", "+32 2 555 01 02", "Bob", "Called", "Gent", "Acme", w.Key()} {
		if strings.Contains(logs.String(), personal) {
			t.Errorf("the log holds %q", personal)
		}
	}
	if !strings.Contains(logs.String(), "operation=create_contact state=done") {
		t.Error("the log does not tell what was done")
	}
}

// LeadGrid's answer, and its 404, do not mark a deleted contact and its links: that takes a complete sweep, which the command
// brings forward.
func TestPromise5_DeletedContactWaitsForASweep(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.start(options())
	w.done(w.write(`create_contact('Bob')`)) // an empty list would prove nothing
	contact, dossier := w.write(`create_contact('Ann')`), w.write(`create_dossier('candidate', 'Ann')`)
	w.done(w.write(`link_contact($1, $2, 'other')`, dossier, contact))
	w.confirmed() // so that nobody reads the dossier's links any more: two reads would be enough for those
	w.done(w.write(`delete_contact($1)`, contact))
	w.confirmed()
	const live = `SELECT (SELECT count(*) FROM contacts WHERE _deleted_at IS NULL), (SELECT count(*) FROM dossier_contacts WHERE _deleted_at IS NULL)`
	var contacts, links, doubts int
	if w.scan(live, &contacts, &links); contacts != 2 || links != 1 {
		t.Errorf("%d contacts and %d links are live before a sweep", contacts, links)
	}
	if w.scan(`SELECT count(*) FROM sync_doubts`, &doubts); doubts != 0 {
		t.Error("a sweep would mark it without having missed it")
	}
	if n := w.sweep(); n != 1 {
		t.Errorf("%d sweeps were brought forward", n)
	}
	if w.scan(live, &contacts, &links); contacts != 1 || links != 0 {
		t.Errorf("%d contacts and %d links are live after the sweep", contacts, links)
	}
}

// Reads that began before a command and end after it do not hide what it did.
func TestAnswerSurvivesAnOlderRead(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.start(options())
	id := *w.done(w.write(`create_dossier('candidate', 'Ann', phone => '1')`)).LeadGridID
	w.confirmed() // so that no read of the create's own is answered just before the update, and applied after it
	at, err := w.observer.Mirror().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old, err := w.api.Dossier(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.done(w.write(`update_dossier($1, '{"phone": "2"}')`, id))
	_, err = w.observer.Apply(t.Context(), mirror.Read{Observation: at, Kind: "dossiers", Endpoint: mirror.GetDossier, Objects: []json.RawMessage{old.Raw}, Whole: true}, true)
	if err != nil {
		t.Fatal(err)
	}
	var phone string
	w.scan(`SELECT phone FROM dossiers`, &phone)
	if phone != "2" {
		t.Errorf("the mirror holds %q", phone)
	}
}
