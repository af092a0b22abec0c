package leadgridtest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// delivered is a webhook as the receiver got it.
type delivered struct {
	signature, body string
	id, kind        string
	data            object
}

// receiver answers with statuses in turn, and with 200 once they are used up.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int
	got      []delivered
}

func receive(t *testing.T, statuses ...int) *receiver {
	r := &receiver{statuses: statuses}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		raw, _ := io.ReadAll(request.Body)
		var envelope struct {
			ID, Type string
			Data     object
		}
		if err := json.Unmarshal(raw, &envelope); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, delivered{request.Header.Get("X-LeadGrid-Signature"), string(raw), envelope.ID, envelope.Type, envelope.Data})
		if len(r.statuses) > 0 {
			w.WriteHeader(r.statuses[0])
			r.statuses = r.statuses[1:]
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// all waits until everything is delivered.
func (r *receiver) all(l *leadgrid) []delivered {
	l.t.Helper()
	if err := l.DrainWebhooks(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func kinds(all []delivered) []string {
	var names []string
	for _, d := range all {
		names = append(names, d.kind)
	}
	return names
}

func TestWebhookIsSigned(t *testing.T) {
	now := time.Date(2026, 4, 15, 10, 30, 30, 0, time.UTC)
	l := start(t, leadgridtest.Options{Now: func() time.Time { return now }})
	r := receive(t)
	l.RegisterWebhook(r.URL, "first")
	id := l.create(object{"type": "candidate", "name": "Zoë \"Z\""})
	r.all(l)
	l.RotateWebhookSecret(r.URL, "second")
	l.want(200, "DELETE", at("dossiers", id), nil)
	all := r.all(l)
	if len(all) != 2 {
		t.Fatalf("%d webhooks", len(all))
	}
	for i, secret := range []string{"first", "second"} {
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%d.%s", now.Unix(), all[i].body)
		if want := fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil))); all[i].signature != want {
			t.Errorf("signature %q, want %q", all[i].signature, want)
		}
	}
	if all[0].data["id"] != id || all[0].data["name"] != "Zoë \"Z\"" || !strings.HasPrefix(all[0].id, "evt_") ||
		!strings.Contains(all[0].body, `"created_at":"2026-04-15T10:30:30.000Z"`) {
		t.Errorf("webhook %s", all[0].body)
	}
	l.UnregisterWebhook(r.URL)
	l.create(object{"type": "candidate", "name": "B"})
	if all := r.all(l); len(all) != 2 {
		t.Errorf("%d webhooks after unregistering", len(all))
	}
}

func TestWhatFires(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	r := receive(t)
	flow, stages := l.CreateFlow("R", "candidate", true, leadgridtest.Stage{Name: "A"}, leadgridtest.Stage{Name: "B"})
	id := l.create(object{"type": "candidate", "name": "A"})
	contact := must(l.CreateContact(leadgridtest.Fields{"full_name": "C"}))
	l.RegisterWebhook(r.URL, "secret")
	path := at("dossiers", id)
	steps := []struct {
		name string
		do   func()
		want []string // without dossier.updated
		on   string   // what must be in updated-on for dossier.updated
	}{
		{"field", func() { l.want(200, "PATCH", path, object{"city": "Gent"}) }, nil, "field"},
		{"nothing", func() { l.want(200, "PATCH", path, object{"city": "Gent"}) }, nil, ""},
		{"stage", func() { l.want(200, "PATCH", path, object{"current_stage_id": stages[1]}) }, []string{"dossier.stage_changed"}, "stage"},
		{"cv", func() { l.want(200, "POST", path+"/cv", pdf) }, nil, "cv"},
		{"won", func() { l.want(200, "PATCH", path, object{"status": "won"}) }, nil, "field"},
		{"archive", func() { l.want(200, "DELETE", path, nil) }, []string{"dossier.deleted"}, "archive"},
		{"again", func() { l.want(200, "DELETE", path, nil) }, nil, ""},
		{"restore", func() { l.want(200, "PATCH", path, object{"status": "active"}) }, nil, "restore"},
		{"link", func() {
			l.want(201, "POST", path+"/contacts", object{"contact_id": contact, "role_on_dossier": "other"})
		}, nil, "link"},
		{"unlink", func() { l.want(200, "DELETE", path+at("contacts", contact), nil) }, nil, "link"},
		{"note", func() { l.want(201, "POST", path+"/notes", object{"content": "N"}) }, []string{"note.created"}, "note"},
		{"note edit", func() { must(0, l.EditNote(id, l.NoteIDs(id)[0], "M")) }, nil, ""},
		{"note removal", func() { must(0, l.RemoveNote(id, l.NoteIDs(id)[0])) }, nil, ""},
		{"flow", func() { must(0, l.UpdateFlow(flow, leadgridtest.Fields{"name": "S"})) }, nil, ""},
		{"contact", func() { l.want(200, "PATCH", at("contacts", contact), object{"city": "Gent"}) }, nil, ""},
	}
	for _, on := range [][]string{nil, {"archive", "link", "note"}} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.UpdatedOn = on })
		must(0, l.UpdateDossier(id, leadgridtest.Fields{"city": nil, "current_stage_id": stages[0], "status": "active"}))
		fires := on
		if on == nil {
			fires = []string{"field", "stage", "restore", "cv"}
		}
		for _, step := range steps {
			before := len(r.all(l))
			step.do()
			want := slices.Clone(step.want)
			if slices.Contains(fires, step.on) {
				want = append(want, "dossier.updated")
			}
			got := kinds(r.all(l)[before:])
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%v %s: %v, want %v", on, step.name, got, want)
			}
		}
	}
	before := len(r.all(l))
	must(0, l.RemoveDossier(id))
	if got := r.all(l)[before:]; len(got) != 0 {
		t.Errorf("removing for good fired %v", kinds(got))
	}
}

func TestWebhookData(t *testing.T) {
	for habit, check := range map[string]func(dossier, note object, id string) bool{
		"": func(d, n object, id string) bool { return len(d) == 21 && n["dossier_id"] == id && n["content"] == "N" },
		"ids": func(d, n object, id string) bool {
			return len(d) == 3 && d["id"] == id && len(n) == 2 && n["dossier_id"] == id
		},
		"nested": func(d, n object, id string) bool {
			return d["dossier"].(object)["id"] == id && n["note"].(object)["dossier_id"] == id
		},
	} {
		l := start(t, habits(leadgridtest.Habits{WebhookData: habit}))
		r := receive(t)
		l.RegisterWebhook(r.URL, "secret")
		id := l.create(object{"type": "candidate", "name": "A"})
		l.want(201, "POST", at("dossiers", id, "notes"), object{"content": "N"})
		all := r.all(l)
		if !check(all[0].data, all[1].data, id) {
			t.Errorf("%s: dossier %v, note %v", habit, all[0].data, all[1].data)
		}
		l.Change(func(s *leadgridtest.Settings) { s.Habits.AnonymousNotes, s.Habits.UnknownEvents = true, true })
		l.want(201, "POST", at("dossiers", id, "notes"), object{"content": "M"})
		all = r.all(l)[2:]
		if strings.Contains(all[0].body, id) || kinds(all)[1] != "dossier.viewed" {
			t.Errorf("%s: anonymous note %s, then %v", habit, all[0].body, kinds(all))
		}
	}
}

func TestRedelivery(t *testing.T) {
	for habit, check := range map[string]func(first, second delivered) bool{
		"":         func(a, b delivered) bool { return a.body == b.body && a.signature != b.signature },
		"new-id":   func(a, b delivered) bool { return a.id != b.id && a.signature != b.signature },
		"verbatim": func(a, b delivered) bool { return a.body == b.body && a.signature == b.signature },
	} {
		var mu sync.Mutex
		now := time.Date(2026, 4, 15, 10, 30, 0, 0, time.UTC)
		l := start(t, leadgridtest.Options{
			Now:      func() time.Time { mu.Lock(); defer mu.Unlock(); now = now.Add(time.Second); return now },
			Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{Redelivery: habit}},
		})
		r := receive(t, 503, 302)
		l.RegisterWebhook(r.URL, "secret")
		l.create(object{"type": "candidate", "name": "A"})
		all := r.all(l)
		if len(all) != 3 || !check(all[0], all[1]) || !check(all[1], all[2]) {
			t.Errorf("%s: %d attempts: %v", habit, len(all), all)
		}
		attempts := []int{}
		for _, d := range l.Deliveries() {
			attempts = append(attempts, d.Attempt*1000+d.Status)
		}
		if !slices.Equal(attempts, []int{1503, 2302, 3200}) {
			t.Errorf("%s: deliveries %v", habit, attempts)
		}
	}

	l := start(t, habits(leadgridtest.Habits{Redelivery: "never"}))
	r := receive(t, 500)
	l.RegisterWebhook(r.URL, "secret")
	id := l.create(object{"type": "candidate", "name": "A"})
	if all := r.all(l); len(all) != 1 {
		t.Errorf("never: %d attempts", len(all))
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.Redelivery, s.Limits.WebhookAttempts = "", 3 })
	r.Close()
	l.want(200, "DELETE", at("dossiers", id), nil)
	if err := l.DrainWebhooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(l.Deliveries()); n != 4 {
		t.Errorf("%d attempts in all, want 1 and then 3 without an answer", n)
	}
}

func TestWebhookFaults(t *testing.T) {
	for name, row := range map[string]struct {
		faults leadgridtest.Faults
		check  func(sent, got []string) bool
	}{
		"none":      {leadgridtest.Faults{}, func(sent, got []string) bool { return slices.Equal(sent, got) }},
		"dropped":   {leadgridtest.Faults{WebhookDropped: 0.5}, func(sent, got []string) bool { return len(got) > 10 && len(got) < 50 }},
		"doubled":   {leadgridtest.Faults{WebhookDoubled: 1}, func(sent, got []string) bool { return len(got) == 120 && got[0] == got[1] }},
		"reordered": {leadgridtest.Faults{WebhookReordered: 0.5}, func(sent, got []string) bool { return len(got) == 60 && !slices.Equal(sent, got) }},
		"delayed": {leadgridtest.Faults{WebhookDelayed: 1, WebhookDelay: time.Hour}, func(sent, got []string) bool {
			return len(got) == 60
		}},
	} {
		t.Run(name, func(t *testing.T) {
			run := func() (sent, got []string) {
				l := start(t, leadgridtest.Options{Settings: leadgridtest.Settings{Faults: row.faults}, Seed: 11})
				r := receive(t)
				l.RegisterWebhook(r.URL, "secret")
				for range 60 {
					must(l.CreateDossier(nil))
				}
				for _, d := range r.all(l) {
					got = append(got, d.id)
				}
				for _, e := range l.Events() {
					sent = append(sent, e.ID)
				}
				return sent, got
			}
			sent, got := run()
			if len(sent) != 60 || !row.check(sent, got) {
				t.Errorf("sent %d, got %d: %v", len(sent), len(got), got)
			}
			again, _ := run()
			if !slices.Equal(sent, again) {
				t.Error("the same seed fired other events")
			}
		})
	}
}

// A bulk edit gives every dossier the same time.
func TestBulkUpdate(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	l.Seed(leadgridtest.Size{Dossiers: 20})
	must(0, l.BulkUpdate(l.DossierIDs(), leadgridtest.Fields{"assigned_to": "everyone"}))
	times := map[any]int{}
	for _, d := range l.Snapshot()[leadgridtest.Dossiers] {
		times[d["updated_at"]]++
	}
	if len(times) != 1 || len(l.Events()) != 20 {
		t.Errorf("times %v, %d events", times, len(l.Events()))
	}
	if err := l.BulkUpdate([]string{l.DossierIDs()[0], "x"}, leadgridtest.Fields{"city": "Gent"}); err == nil || len(l.Events()) != 20 {
		t.Errorf("a bulk edit with an unknown dossier: %v, %d events", err, len(l.Events()))
	}
}
