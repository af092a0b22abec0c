package writeback_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// under applies a mapping, for the worker that is started next.
func (w *rig) under(file string) {
	w.t.Helper()
	mapping, err := mappings.Parse([]byte(file), "not a real key, only long")
	if err != nil {
		w.t.Fatal(err)
	}
	m := mirror.New(w.pool, mirror.Options{Lag: 50 * time.Millisecond, Mapping: mapping})
	if _, err := m.Remap(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.observer = observe.New(w.api, m, w.gate).WithPause(20 * time.Millisecond)
}

// commands writes all that the table of commands holds of what was said.
func (w *rig) commands() (text string) {
	w.t.Helper()
	w.scan(`SELECT string_agg(concat_ws(' ', operation, state, arguments, expected, result, error, evidence, cv_filename), E'\n' ORDER BY number) FROM commands`, &text)
	return text
}

// A command must hold what is to be sent; once it is over, it holds no more than the mapping lets land.
func TestPromise12_CommandsThatAreOverObeyTheMapping(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	before := w.write(`create_contact('Zqxwv Before', email => 'before@qwyjibo.example')`) // under the default
	stop := w.start(options())
	w.done(before)
	eventually.True(w.t, "the first command to be confirmed", func() (over bool) { w.scan(`SELECT bool_and(confirms = 0) FROM commands`, &over); return over })
	stop()

	w.under("contacts:\n  fields: {full_name: hash, email: domain, notes: leave out}\ndossiers:\n  fields: {name: hash, email: leave out, cv_url: leave out}\n" +
		"notes:\n  fields: {content: leave out}\n")
	stop = w.start(options())
	contact := w.write(`create_contact('Zqxwv Qwyjibo', email => 'zqxwv@qwyjibo.example', city => 'Gent')`)
	dossier := w.write(`create_dossier('candidate', 'Zqxwv Dossier', email => 'zqxwv@x.example', cv => convert_to('%PDF-1.7 zqxwv', 'UTF8'), cv_filename => 'zqxwv.pdf')`)
	note := w.write(`add_note($1, 'Zqxwv called', false)`, dossier)
	for _, id := range []string{contact, dossier, note} {
		w.done(id)
	}
	if truth := fmt.Sprint(w.Snapshot()); !strings.Contains(truth, "Zqxwv Qwyjibo") || !strings.Contains(truth, "Zqxwv Dossier") || !strings.Contains(truth, "Zqxwv called") {
		t.Error("LeadGrid should have been told in full")
	}
	refused := w.write(`update_contact($1, '{"notes": "zqxwv"}', expected => '{"full_name": "Zqxwv Smith", "city": "Brugge"}')`, contact)
	if r := w.settled(refused); r.State != "refused" || !strings.Contains(text(r.Error), `city is "Gent", not "Brugge", full_name is another`) {
		t.Errorf("it is %s: %s", r.State, text(r.Error))
	}
	if _, err := w.pool.Exec(t.Context(), `
		INSERT INTO commands (operation, state, arguments, error, finished_at)
		VALUES ('create_contact', 'refused', '{"full_name": "Zqxwv Quoted"}', 'LeadGrid answered 400: "Zqxwv Quoted" is no name', now())`); err != nil {
		t.Fatal(err)
	}
	eventually.True(w.t, "the commands to be held to the mapping", func() (over bool) { w.scan(`SELECT bool_and(mapped) FROM commands`, &over); return over })
	said := w.commands()
	for _, word := range []string{"zqxwv", "before@", "Before"} {
		if strings.Contains(strings.ToLower(strings.ReplaceAll(said, "@qwyjibo.example", "")), strings.ToLower(word)) {
			t.Errorf("the commands still say %s:\n%s", word, said)
		}
	}
	for _, kept := range []string{`"city": "Gent"`, `"type": "candidate"`, `"full_name": "hmac:`, `"email": "@qwyjibo.example"`, `LeadGrid answered 400: "…" is no name`} {
		if !strings.Contains(said, kept) {
			t.Errorf("the commands do not say %s any more:\n%s", kept, said)
		}
	}

	// A stricter mapping reaches those that obeyed the last one.
	stop()
	w.under("contacts:\n  fields: {full_name: hash, email: leave out, city: leave out}\n")
	w.start(options())
	eventually.True(w.t, "the commands to be held to the next mapping", func() (over bool) { w.scan(`SELECT bool_and(mapped) FROM commands`, &over); return over })
	if said := w.commands(); strings.Contains(said, `"city": "Gent"`) || strings.Contains(said, "qwyjibo") {
		t.Errorf("the commands still say where, and at which domain:\n%s", said)
	}
}
