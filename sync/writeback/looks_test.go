package writeback_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// faulty breaks the nth request of an operation, and before that runs what happens at the same time.
type faulty struct {
	operation string
	fault     leadgridtest.Fault
	times     int32
	meanwhile func()
	seen      atomic.Int32
}

func (f *faulty) onRequest(r leadgridtest.Request) leadgridtest.Fault {
	if r.Operation != f.operation || f.seen.Add(1) > f.times {
		return leadgridtest.Healthy
	}
	if f.meanwhile != nil {
		f.meanwhile()
	}
	return f.fault
}

// creating are the operations that may not run twice, each with a call in which %s stands for what tells it from others.
var creating = []struct{ operation, call string }{
	{"dossiers.create", `create_dossier('candidate', '%s', email => 'ann@example.com', phone => '1')`},
	{"dossiers.create", `create_dossier('sales', '%s', deal_size => 12500.50, deal_currency => 'EUR', cv => '%%PDF-1.7')`},
	{"contacts.create", `create_contact('%s', email => '%[1]s@example.com', kind => '{client,candidate}')`},
	{"contacts.create", `create_contact('%s')`},
	{"notes.create", `add_note((SELECT id FROM dossiers WHERE name = 'Someone'), 'Hello & <goodbye>, %s')`},
}

func ran(w *rig, operation string) (n int) {
	for _, create := range w.Creates() {
		if create.Operation == operation {
			n++
		}
	}
	return n
}

// sent counts the requests of an operation that LeadGrid has seen.
func sent(w *rig, operation string) (n int) {
	for _, request := range w.Ledger() {
		if request.Operation == operation {
			n++
		}
	}
	return n
}

// Whatever keeps LeadGrid's answer from coming, before or after it acted: the create runs once. It is sent a second time
// only where it did not run, or where an e-mail makes LeadGrid refuse the second.
func TestPromise10_AnswerLost(t *testing.T) {
	t.Parallel()
	faults := []struct {
		fault leadgridtest.Fault
		again bool // it is sent
	}{
		{leadgridtest.ErrorBefore, true}, {leadgridtest.BadGateway, true}, {leadgridtest.ResetBefore, true},
		{leadgridtest.ErrorAfter, false}, {leadgridtest.Truncated, false}, {leadgridtest.ResetAfter, false},
		{leadgridtest.HangBefore, true}, {leadgridtest.HangAfter, false},
	}
	for _, create := range creating {
		t.Run(create.call[:strings.Index(create.call, "(")], func(t *testing.T) {
			t.Parallel()
			var now atomic.Pointer[faulty]
			now.Store(&faulty{})
			w := newRig(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault { return now.Load().onRequest(r) }})
			w.oneDossier(create.operation)
			stop := w.start(options())
			for i, test := range faults {
				if i == len(faults)-2 { // those that only a caller's patience ends
					w.Change(func(s *leadgridtest.Settings) { s.Faults.HangFor = time.Minute })
					stop()
					w.ask(2*time.Second, 50*time.Millisecond)
					w.start(options())
				}
				fault := test.fault
				now.Store(&faulty{operation: create.operation, fault: fault, times: 1})
				createsBefore, sentBefore := len(w.Creates()), sent(w, create.operation)
				row := w.done(w.write(fmt.Sprintf(create.call, fault)))
				creates := w.Creates()[createsBefore:]
				if len(creates) != 1 {
					t.Fatalf("%s: it ran %d times", fault, len(creates))
				}
				if *row.LeadGridID != creates[0].ID {
					t.Errorf("%s: done as %s, LeadGrid made %s", fault, *row.LeadGridID, creates[0].ID)
				}
				times := sent(w, create.operation) - sentBefore
				if again := times > 1; again != test.again && !strings.Contains(create.call, "[1]s@") {
					t.Errorf("%s: LeadGrid has seen it %d times", fault, times)
				}
				if row.Attempts < times {
					t.Errorf("%s: LeadGrid has seen it %d times, and %d attempts are counted", fault, times, row.Attempts)
				}
			}
		})
	}
}

// A command is known as under way before LeadGrid can see anything of it.
func TestPromise10_SendingIsCommittedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	var w *rig
	var states []string
	w = newRig(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		if r.Operation == "contacts.create" {
			var state string
			err := w.pool.QueryRow(t.Context(), `SELECT concat_ws(' ', state, attempts, sent_at IS NOT NULL, sent IS NOT NULL) FROM commands`).Scan(&state)
			if err != nil {
				t.Error(err)
			}
			states = append(states, state)
		}
		return leadgridtest.Healthy
	}})
	w.start(options())
	w.done(w.write(`create_contact('Ann')`))
	if len(states) != 1 || states[0] != "sending 1 t t" {
		t.Errorf("LeadGrid was sent commands that are %q", states)
	}
}

// What a worker was sending when it was killed is left alone while its request may be under way, and then looked for.
func TestPromise10_WorkerKilledWhileSending(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	create, other := w.write(`create_dossier('candidate', 'Ann')`), w.write(`create_contact('Bob')`)
	kill := func(id, lease string) {
		_, err := w.pool.Exec(t.Context(), `
			UPDATE commands SET state = 'sending', attempts = 1, sent_at = clock_timestamp(), sent = nextval('observations'),
			       due_at = clock_timestamp() + $2::interval WHERE id = $1::uuid`, id, lease)
		if err != nil {
			t.Fatal(err)
		}
	}
	kill(create, "0")
	kill(other, "1 hour")
	made, err := w.api.CreateDossier(t.Context(), leadgridapi.DossierInput{Type: "candidate", Name: "Ann"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.start(options())
	if row := w.done(create); *row.LeadGridID != made.ID || row.Attempts != 1 {
		t.Errorf("done as %s after %d attempts", *row.LeadGridID, row.Attempts)
	}
	if row := w.load(other); row.State != "sending" || ran(w, "contacts.create") != 0 {
		t.Errorf("what somebody else is sending is %s", row.State)
	}
}

// oneDossier puts a dossier into LeadGrid and the mirror for those that need one.
func (w *rig) oneDossier(operation string) string {
	w.t.Helper()
	if operation != "notes.create" {
		return ""
	}
	id, err := w.CreateDossier(leadgridtest.Fields{"name": "Someone"})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.observer.Dossier(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// What somebody else made at the same moment and looks the same is for a person to tell apart.
func TestPromise10_LookAlikesAreForAPerson(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, operation, call string
		meanwhile             func(w *rig, dossier string) error
		fault                 leadgridtest.Fault
	}{
		{"the same dossier twice", "dossiers.create", `create_dossier('candidate', 'Ann', phone => '1')`, func(w *rig, _ string) error {
			_, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann", "phone": "1"})
			return err
		}, leadgridtest.ResetAfter},
		{"a dossier of the same name", "dossiers.create", `create_dossier('candidate', 'Ann', phone => '1')`, func(w *rig, _ string) error {
			_, err := w.CreateDossier(leadgridtest.Fields{"name": "ann ", "phone": "2"})
			return err
		}, leadgridtest.ResetBefore},
		{"a dossier with more in it", "dossiers.create", `create_dossier('candidate', 'Ann')`, func(w *rig, _ string) error {
			_, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann", "email": "other@example.com"})
			return err
		}, leadgridtest.HangBefore},
		{"a contact of the same name", "contacts.create", `create_contact('Ann', phone => '1')`, func(w *rig, _ string) error {
			_, err := w.CreateContact(leadgridtest.Fields{"full_name": "Ann", "phone": "2"})
			return err
		}, leadgridtest.ResetBefore},
		{"the same e-mail", "contacts.create", `create_contact('Ann', email => 'ann@example.com')`, func(w *rig, _ string) error {
			_, err := w.CreateContact(leadgridtest.Fields{"full_name": "Anna", "email": "Ann@example.com"})
			return err
		}, leadgridtest.ResetBefore},
		{"the same note twice", "notes.create", `add_note((SELECT id FROM dossiers), 'Hello')`, func(w *rig, dossier string) error {
			_, err := w.AddNote(dossier, "Hello", true)
			return err
		}, leadgridtest.ErrorAfter},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &faulty{operation: test.operation, fault: test.fault, times: 1}
			w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
			dossier := w.oneDossier(test.operation)
			f.meanwhile = func() {
				if err := test.meanwhile(w, dossier); err != nil {
					t.Error(err)
				}
			}
			w.start(options())
			row := w.settled(w.write(test.call))
			if !row.Waiting {
				t.Fatalf("it is %s as %s: %s", row.State, text(row.LeadGridID), text(row.Error))
			}
			if n := ran(w, test.operation); n > 1 {
				t.Errorf("it ran %d times", n)
			}
			var candidates int
			w.scan(`SELECT jsonb_array_length(evidence -> 'candidates') FROM commands`, &candidates)
			if candidates == 0 {
				t.Error("no evidence")
			}
		})
	}
}

// With a marker what a command made is found for certain, whatever else looks the same; and nothing else is taken for it.
func TestPromise10_Marker(t *testing.T) {
	t.Parallel()
	for fault, want := range map[leadgridtest.Fault]string{leadgridtest.ResetAfter: "done", leadgridtest.ResetBefore: "unknown"} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int32
			var w *rig
			w = newRig(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
				if r.Operation != "dossiers.create" {
					return leadgridtest.Healthy
				}
				switch seen.Add(1) {
				case 1:
					return leadgridtest.RateLimited // which must not mark it twice
				case 2:
					if _, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann", "intake_notes": "By phone"}); err != nil {
						t.Error(err)
					}
					return fault
				}
				return leadgridtest.Healthy
			}})
			o := options()
			o.Marker = "ref"
			w.start(o)
			id := w.write(`create_dossier('candidate', 'Ann', intake_notes => 'By phone')`)
			row := w.settled(id)
			if row.State != want {
				t.Fatalf("it is %s, want it %s: %s", row.State, want, text(row.Error))
			}
			if row.Attempts != 1 {
				t.Errorf("%d attempts are counted, one of them too often for LeadGrid", row.Attempts)
			}
			if row.State == "unknown" {
				return
			}
			if made := w.Creates()[0].ID; *row.LeadGridID != made {
				t.Errorf("done as %s, LeadGrid made %s", *row.LeadGridID, made)
			}
			if notes := w.Snapshot()["dossiers"][*row.LeadGridID]["intake_notes"]; notes != "By phone\n\n[ref "+id+"]" {
				t.Errorf("its notes are %q", notes)
			}
		})
	}
}

// What was there before is no evidence, however much it looks like what was sent.
func TestPromise10_WhatWasThereBefore(t *testing.T) {
	t.Parallel()
	f := &faulty{operation: "dossiers.create", fault: leadgridtest.ResetBefore, times: 1}
	w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
	old, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.observer.Dossier(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	w.start(options())
	if row := w.done(w.write(`create_dossier('candidate', 'Ann')`)); *row.LeadGridID == old {
		t.Error("done as what was there before")
	}
	if n := ran(w, "dossiers.create"); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// The contact was made, its answer lost, and somebody has deleted it before anybody looked: a person must know, and it must not
// be made again.
func TestPromise10_DeletedBeforeTheLook(t *testing.T) {
	t.Parallel()
	var w *rig
	var deleted sync.Once
	f := &faulty{operation: "contacts.create", fault: leadgridtest.ResetAfter, times: 1}
	w = newRig(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		if r.Operation == "contacts.list" {
			deleted.Do(func() {
				id := w.ContactIDs()[0]
				if err := w.RemoveContact(id); err != nil {
					t.Error(err)
				}
				// As sweeps have left it that saw it come and go.
				_, err := w.pool.Exec(t.Context(), `INSERT INTO contacts (id, created_at, _raw, _hash, _observed, _changed_at, _deleted_at, _erased_at)
					VALUES ($1, now(), '{}', 0, 0, now(), now(), now())`, id)
				if err != nil {
					t.Error(err)
				}
			})
		}
		return f.onRequest(r)
	}})
	w.start(options())
	if row := w.settled(w.write(`create_contact('Ann')`)); row.State != "unknown" {
		t.Errorf("it is %s: %s", row.State, text(row.Error))
	}
	if n := ran(w, "contacts.create"); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// A list that moves between its pages may show what was made on two of them: that is still one.
func TestPromise10_ListShowsItTwice(t *testing.T) {
	t.Parallel()
	var w *rig
	var pages atomic.Int32
	f := &faulty{operation: "contacts.create", fault: leadgridtest.ResetAfter, times: 1}
	w = newRig(t, leadgridtest.Options{
		Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{Order: "newest", MaxPerPage: 1}},
		OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
			if r.Operation == "contacts.list" && pages.Add(1) == 2 {
				if _, err := w.CreateContact(leadgridtest.Fields{"full_name": "Ann Other", "email": "ann@example.community"}); err != nil {
					t.Error(err)
				}
			}
			return f.onRequest(r)
		},
	})
	w.start(options())
	w.done(w.write(`create_contact('Ann', email => 'ann@example.com')`))
	if n := ran(w, "contacts.create"); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// What another command made meanwhile is no evidence either, though it has the same name.
func TestPromise10_WhatAnotherCommandMade(t *testing.T) {
	t.Parallel()
	f := &faulty{operation: "dossiers.create", fault: leadgridtest.ResetBefore, times: 1}
	w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
	var other string
	f.meanwhile = func() {
		other = w.write(`create_dossier('candidate', 'Ann', phone => '2')`)
		eventually.True(w.t, "the other dossier", func() bool { return w.load(other).State == "done" })
	}
	w.start(options())
	if row := w.done(w.write(`create_dossier('candidate', 'Ann', phone => '1')`)); *row.LeadGridID == *w.load(other).LeadGridID {
		t.Error("done as what another command made")
	}
	if n := ran(w, "dossiers.create"); n != 2 {
		t.Errorf("they ran %d times", n)
	}
}

// Two commands that send the same are told apart: each makes one.
func TestPromise10_TheSameTwice(t *testing.T) {
	t.Parallel()
	for _, create := range []struct{ operation, call string }{creating[0], creating[3], creating[4]} {
		t.Run(create.operation, func(t *testing.T) {
			t.Parallel()
			f := &faulty{operation: create.operation, fault: leadgridtest.ErrorAfter, times: 2}
			w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
			w.oneDossier(create.operation)
			w.start(options())
			call := fmt.Sprintf(create.call, "Ann")
			first, second := w.write(call), w.write(call)
			if a, b := w.done(first), w.done(second); *a.LeadGridID == *b.LeadGridID {
				t.Errorf("both are done as %s", *a.LeadGridID)
			}
			if n := ran(w, create.operation); n != 2 {
				t.Errorf("they ran %d times", n)
			}
		})
	}
}

// A request given up and looked for in vain that LeadGrid carries out after all, late: a person is told.
func TestPromise10_CarriedOutLate(t *testing.T) {
	t.Parallel()
	f := &faulty{operation: "dossiers.create", fault: leadgridtest.HangBefore, times: 1}
	w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
	w.start(options())
	id := w.write(`create_dossier('candidate', 'Ann')`)
	if row := w.done(id); row.Attempts != 2 {
		t.Fatalf("sent %d times", row.Attempts)
	}
	if _, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann"}); err != nil {
		t.Fatal(err)
	}
	eventually.True(w.t, "the twin to be found", func() bool { return w.load(id).Waiting })
	if row := w.load(id); !strings.Contains(*row.Error, "ran more than once") {
		t.Errorf("the row says %s", *row.Error)
	}
}

// A 409 to the first attempt is somebody else's contact; to the second it may be our own.
func TestPromise10_ContactThatExists(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.start(options())
	other, err := w.CreateContact(leadgridtest.Fields{"full_name": "Ann", "email": "ann@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	row := w.settled(w.write(`create_contact('Ann', email => 'ANN@example.com')`))
	if row.State != "refused" || !strings.Contains(*row.Error, other) {
		t.Errorf("it is %s: %s; want it refused, naming contact %s", row.State, text(row.Error), other)
	}
}

// A dossier whose CV was lost on the way gets its CV, and is not made again.
func TestPromise10_CreateAndUploadAreToldApart(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{true, false} {
		w := newRig(t, leadgridtest.Options{Settings: leadgridtest.Settings{
			Habits: leadgridtest.Habits{LeavesFailedCreates: leaves}, Faults: leadgridtest.Faults{UploadFails: 1},
		}})
		w.start(options())
		id := w.write(`create_dossier('candidate', 'Ann', cv => '%PDF-1.7 Ann', cv_filename => 'ann.pdf')`)
		eventually.True(w.t, "the first attempt", func() bool { return w.load(id).State == "unknown" })
		w.Change(func(s *leadgridtest.Settings) { s.Faults.UploadFails = 0 })
		row := w.done(id)
		if n := ran(w, "dossiers.create"); n != 1 {
			t.Errorf("leaves %v: it ran %d times", leaves, n)
		}
		if _, ok := w.CV(*row.LeadGridID); !ok {
			t.Errorf("leaves %v: the dossier has no CV", leaves)
		}
	}
}

// A replica that does not show yet what was made does not make it look undone.
func TestPromise10_LaggingReplica(t *testing.T) {
	t.Parallel()
	for _, create := range creating {
		t.Run(create.call[:strings.Index(create.call, "(")], func(t *testing.T) {
			t.Parallel()
			f := &faulty{operation: create.operation, fault: leadgridtest.ErrorAfter, times: 1}
			w := newRig(t, leadgridtest.Options{OnRequest: f.onRequest, Settings: leadgridtest.Settings{
				Habits: leadgridtest.Habits{ReplicaLag: time.Nanosecond},
			}})
			w.oneDossier(create.operation)
			w.Change(func(s *leadgridtest.Settings) { s.Habits.ReplicaLag = time.Second })
			w.ask(30*time.Second, time.Second)
			before := len(w.Creates())
			w.start(options())
			row := w.done(w.write(fmt.Sprintf(create.call, "Ann")))
			if n := len(w.Creates()) - before; n != 1 {
				t.Errorf("it ran %d times", n)
			}
			if *row.LeadGridID != w.Creates()[before].ID {
				t.Errorf("done as %s", *row.LeadGridID)
			}
		})
	}
}

// A read that began before the command was sent and that LeadGrid answered after having carried it out shows what the
// command made, not what was there before.
func TestPromise10_SeenByAReadThatBeganBefore(t *testing.T) {
	t.Parallel()
	f := &faulty{operation: "dossiers.create", fault: leadgridtest.ResetAfter, times: 1}
	var w *rig
	var early mirror.Observation
	applied := make(chan error, 1)
	w = newRig(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		if r.Operation == "dossiers.list" && f.seen.Load() == 1 && len(applied) == 0 {
			applied <- func() error {
				dossier, err := w.api.Dossier(t.Context(), w.Creates()[0].ID)
				if err != nil {
					return err
				}
				_, err = w.observer.Apply(t.Context(), mirror.Read{
					Observation: early, Kind: "dossiers", Endpoint: mirror.GetDossier, Objects: []json.RawMessage{dossier.Raw}, Whole: true,
				}, true)
				return err
			}()
		}
		return f.onRequest(r)
	}})
	var err error
	if early, err = w.observer.Mirror().Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.start(options())
	w.done(w.write(`create_dossier('candidate', 'Ann')`))
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	if n := ran(w, "dossiers.create"); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}
