package jobs_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// The planted person: nobody else has a Q, X or Z like that in what they are called.
var planted = leadgridtest.Fields{
	"full_name": `Zqxwvé "Zizi" Qwyjibo`, "email": "Zizi.Qwyjibo@zqxwv.example", "phone": "+32 470 99 88 77",
	"linkedin_url": "https://www.linkedin.com/in/zqxwv", "company": "Qwyjibo Holding", "role": "Zqxwv-in-chief",
	"city": "Zqxwvgem", "notes": "zqxwv\x00 was here", "kind": []string{"candidate"},
}

// traces are what would give the person away, in lower case.
var traces = []string{"zqxwv", "qwyjibo", "470 99 88 77"}

// dump writes every row of every table of both schemas as COPY does.
func dump(t *testing.T, pool *pgxpool.Pool) map[string]string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = ANY ($1)`,
		[]string{pgtest.Schemas.Mirror, pgtest.Schemas.Queue})
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	dumped := map[string]string{}
	for _, table := range tables {
		var text bytes.Buffer
		if _, err := conn.Conn().PgConn().CopyTo(t.Context(), &text, `COPY `+table+` TO STDOUT`); err != nil {
			t.Fatal(err)
		}
		dumped[strings.TrimPrefix(table, pgtest.Schemas.Mirror+".")] = text.String()
	}
	return dumped
}

// foundIn lists the tables of a dump in which a trace stands, as text, as bytes, or as escaped JSON.
func foundIn(t *testing.T, pool *pgxpool.Pool) map[string]string {
	t.Helper()
	found := map[string]string{}
	for table, text := range dump(t, pool) {
		for line := range strings.Lines(text) {
			lower := strings.ToLower(line)
			for _, trace := range traces {
				upper := hex.EncodeToString([]byte(strings.ToUpper(trace)))
				title := hex.EncodeToString([]byte(strings.ToUpper(trace[:1]) + trace[1:]))
				for _, form := range []string{trace, hex.EncodeToString([]byte(trace)), upper, title} {
					if strings.Contains(lower, form) {
						found[table] = line
					}
				}
			}
		}
	}
	return found
}

// plant brings the person into the database through every path there is, and returns the contact, a dossier of
// somebody else they are linked to, and one that is about them.
func plant(t *testing.T, w *world) (contact, linked, about string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := w.pool.Exec(t.Context(), sql, args...)
		must(err)
	}
	var err error
	contact, err = w.CreateContact(planted)
	must(err)
	linked = w.DossierIDs()[0]
	must(w.Link(linked, contact, "champion", false))
	about, err = w.CreateDossier(leadgridtest.Fields{"type": "candidate", "name": "Z. Qwyjibo", "email": planted["email"]})
	must(err)
	_, err = w.AddNote(about, "Zqxwv called back", true)
	must(err)
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}

	// Webhooks: understood, escaped, broken, and with the name where an id or a type should be.
	client, err := river.NewClient(riverpgxv5.New(w.pool), &river.Config{Schema: pgtest.Schemas.Queue, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	intake := events.NewIntake(w.pool, client, events.Options{})
	defer intake.Close()
	name, err := json.Marshal(planted["full_name"])
	must(err)
	for _, body := range []string{
		`{"id":"evt_1","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":"` + w.DossierIDs()[1] + `","name":` + string(name) + `}}`,
		`{"id":"evt_2","type":"dossier.updated","data":{"id":"` + linked + `","was":"a colleague of zqxwv"}}`,
		`{"id":"evt_3","type":"dossier.updated","data":{"name":"Zqxwv\u00e9 \"Zizi\" Qwyjibo"},"data":{}}`,
		`{"id":"evt_4","who":"ZIZI.QWYJIBO@ZQXWV.EXAMPLE`,
		`{"id":"zizi.qwyjibo@zqxwv.example","type":"+32 470 99 88 77","data":{}}`,
	} {
		_, err := intake.Add(t.Context(), events.Received{Body: []byte(body), At: time.Now()})
		must(err)
	}
	// An object without an id.
	at, err := w.engine.Mirror.Begin(t.Context())
	must(err)
	must(w.engine.Mirror.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := w.engine.Mirror.Apply(t.Context(), tx, mirror.Read{Observation: at, Kind: mappings.Contacts, Endpoint: mirror.ListContacts,
			Objects: []json.RawMessage{[]byte(`{"full_name":` + string(name) + `}`)}})
		return err
	}))
	// Write-back: one to be sent, one refused, one done, and a CV.
	exec(`INSERT INTO commands (operation, contact_id, arguments, due_at) VALUES ('update_contact', $1, '{"role": "zqxwv"}', 'infinity')`, contact)
	exec(`INSERT INTO commands (operation, state, arguments, error) VALUES ('create_contact', 'refused', jsonb_build_object('email', $1::text), $1)`, planted["email"])
	exec(`INSERT INTO commands (operation, state, leadgrid_id, result, evidence, expected, cv_filename)
	      VALUES ('create_contact', 'done', $1, '{"company": "qwyjibo"}', '["zqxwv"]', '{"role": "zqxwv"}', 'zqxwv.pdf')`, contact)
	exec(`INSERT INTO command_cvs (number, cv) SELECT number, 'zqxwv' FROM commands WHERE state = 'pending'`)
	// A job that somebody put there by hand, and one whose error quotes the name.
	queue := pgx.Identifier{pgtest.Schemas.Queue}.Sanitize()
	exec(`INSERT INTO `+queue+`.river_job (kind, args, max_attempts, state, finalized_at, scheduled_at)
	      VALUES ('by_hand', jsonb_build_object('email', lower($1)), 1, 'completed', now(), now())`, planted["email"])
	exec(`INSERT INTO `+queue+`.river_job (kind, args, errors, max_attempts, state, scheduled_at)
	      VALUES ('leadgrid_tick', '{}', ARRAY[jsonb_build_object('error', lower($1))], 9, 'scheduled', now() + interval '1 day')`, planted["email"])
	return contact, linked, about
}

// everyTrace are the tables in which the planted person must stand before the test means anything.
var everyTrace = []string{"contacts", "dossier_contacts", "dossiers", "notes", "contacts_history", "dossier_contacts_history", "dossiers_history", "notes_history", "webhook_events", "sync_oddities", "commands", "command_cvs", "leadgrid_queue.river_job"}

// keepHistory turns on every history that can hold a person, and returns once they are on.
func (w *world) keepHistory(t *testing.T) {
	t.Helper()
	mapping, err := mappings.Parse([]byte("contacts: {history: on}\ndossier_contacts: {history: on}\ndossiers: {history: on}\nnotes: {history: on}\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.New(w.pool, mirror.Options{Mapping: mapping}).Remap(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPromise11_ErasedIsGoneFromEveryTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.keepHistory(t)
	w.Seed(leadgridtest.Size{Dossiers: 20, Contacts: 30, Links: 25, Notes: 20})
	contact, linked, about := plant(t, w)
	before := foundIn(t, w.pool)
	for _, table := range everyTrace {
		if before[table] == "" {
			t.Errorf("the person was not planted in %s", table)
		}
	}
	eventually.True(t, "the planted events to be processed", func() bool { return count(t, w.pool, `SELECT count(*) FROM sync_flushes WHERE done_at IS NULL`) == 0 })

	erase := func(erasure mirror.Erasure) (certificate mirror.Certificate) {
		t.Helper()
		err := w.engine.Mirror.InTx(t.Context(), func(tx pgx.Tx) (err error) {
			erasure.Contacts, erasure.Reason = []string{contact}, mirror.ErasedByCommand
			certificate, err = w.engine.Mirror.Erase(t.Context(), tx, erasure)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	certificate := erase(mirror.Erasure{})
	if got := fmt.Sprint(certificate.Dossiers); !strings.Contains(got, linked+" [linked]") || !strings.Contains(got, about+" [same e-mail]") {
		t.Errorf("the certificate lists dossiers %s, want %s as linked and %s for its e-mail", got, linked, about)
	}
	for table, line := range foundIn(t, w.pool) {
		if name := strings.TrimSuffix(table, "_history"); name != "dossiers" && name != "notes" { // the dossier about the person still exists in LeadGrid
			t.Errorf("%s still holds the person: %s", table, line)
		}
	}
	erase(mirror.Erasure{WithDossiers: true, Dossiers: []string{about}})
	wantNoTrace(t, w.pool)

	// The contact is still in LeadGrid: neither sweeps nor a page read long ago may bring anything back.
	for range 2 {
		if s := w.sync(t); s.State != sweep.Done {
			t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
		}
		wantNoTrace(t, w.pool)
	}
	// A database restored from a backup of before holds the rows again; the next read clears them.
	if _, err := w.pool.Exec(t.Context(), `UPDATE contacts SET full_name = 'Zqxwv', _raw = '{"id":"x","full_name":"Zqxwv","nickname":"Zqxwv"}', _hash = 1 WHERE id = $1`, contact); err != nil {
		t.Fatal(err)
	}
	w.sync(t)
	wantNoTrace(t, w.pool)
	version := `SELECT xmin::text::bigint FROM contacts WHERE id = '` + contact + `'`
	untouched := count(t, w.pool, version)
	w.sync(t)
	if again := count(t, w.pool, version); again != untouched {
		t.Error("a sweep that found nothing new wrote the erased row again (promise 9)")
	}

	truth := oracle.Truth(w.Snapshot())
	for _, rows := range truth {
		for id := range rows {
			if strings.Contains(id, contact) || strings.Contains(id, about) || rows[id]["dossier_id"] == about {
				for field := range rows[id] {
					switch field {
					case "id", "dossier_id", "contact_id", "created_at":
					default:
						delete(rows[id], field)
					}
				}
			}
		}
	}
	differences, err := oracle.Differences(t.Context(), w.pool, truth, oracle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range differences {
		t.Error(difference)
	}
}

func TestPromise11_GoneFromLeadGridIsErased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.keepHistory(t)
	w.Seed(leadgridtest.Size{Dossiers: 20, Contacts: 30, Links: 25, Notes: 20})
	contact, _, about := plant(t, w)
	if err := w.RemoveDossier(about); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveContact(contact); err != nil {
		t.Fatal(err)
	}
	if s := w.sync(t); s.State != sweep.Done {
		t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
	}
	wantNoTrace(t, w.pool)
	w.wantEqual(t, oracle.Options{})
	if n := count(t, w.pool, `SELECT count(*) FROM contacts WHERE id = '`+contact+`' AND _deleted_at IS NOT NULL AND _erased_at IS NOT NULL AND created_at IS NOT NULL`); n != 1 {
		t.Error("the row of the erased contact should stay, with its id and times")
	}
}

func wantNoTrace(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for table, line := range foundIn(t, pool) {
		t.Errorf("%s still holds the person: %s", table, line)
	}
}

func count(t *testing.T, pool *pgxpool.Pool, sql string) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
