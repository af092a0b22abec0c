package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

var tiny = leadgridtest.Size{Dossiers: 6, Contacts: 8, Links: 6, Notes: 6}

// mapping gives the program a mapping file.
func (w *world) mapping(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mappings.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["LEADGRID_MAPPINGS"], w.env["LEADGRID_HASH_KEY"] = path, "not a real key, only long"
}

func (w *world) one(t *testing.T, sql string, args ...any) (text string) {
	t.Helper()
	if err := w.pool.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func (w *world) wantOne(t *testing.T, sql, want string, args ...any) {
	t.Helper()
	if got := w.one(t, sql, args...); got != want {
		t.Errorf("%s gives %q, want %q", sql, got, want)
	}
}

func TestMappingFromFileToTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(tiny)
	w.run(t, "mappings").want(t, 0, "full_name: text")

	w.mapping(t, "contacts:\n  fields:\n    phone: leavout\n  histori: on\n")
	mistaken := w.run(t, "migrate")
	mistaken.want(t, exitUsage, `line 3, column 12: contacts.phone: "leavout" is none of leave out, hash, domain`)
	mistaken.want(t, exitUsage, `line 4, column 3: "histori" means nothing here`)

	w.mapping(t, "contacts:\n  raw: drop\n  history: on\n  fields: {full_name: hash, phone: leave out, email: domain}\n"+
		"  columns:\n    linkedin: {from: linkedin_url, type: text}\n    linkedin_url: none\ndossiers:\n  history: on\n")
	printed := w.run(t, "mappings")
	for _, text := range []string{
		"  raw: drop\n  history: on\n  fields:\n    full_name: hash\n", "    linkedin: {from: linkedin_url, type: text}\n",
		"\n# ALTER TABLE contacts ADD COLUMN IF NOT EXISTS \"linkedin\" text;\n",
		"\n# CREATE OR REPLACE TRIGGER history_of_update AFTER UPDATE ON dossiers ",
	} {
		printed.want(t, 0, text)
	}
	w.run(t, "sync", "--wait").want(t, exitFailed, "run `worker migrate`")
	w.run(t, "migrate").want(t, 0, "the mapping is applied: 0 rows")
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.run(t, "verify").want(t, 0, equal)
	const kept = `SELECT count(*)::text FROM contacts WHERE _deleted_at IS NULL AND full_name ~ '^hmac:' AND num_nonnulls(phone, linkedin_url, _raw) = 0 AND created_at IS NOT NULL`
	w.wantOne(t, kept, "8")
	w.wantOne(t, `SELECT count(DISTINCT id)::text FROM contacts_history WHERE full_name ~ '^hmac:' AND num_nonnulls(phone, linkedin_url, _raw) = 0`, "8")

	id := w.DossierIDs()[0]
	if err := w.UpdateDossier(id, leadgridtest.Fields{"name": "Another Name"}); err != nil {
		t.Fatal(err)
	}
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantOne(t, `SELECT count(*) || ' ' || count(*) FILTER (WHERE valid_to IS NULL AND name = 'Another Name') FROM dossiers_history WHERE id = $1`, "2 1", id)
	w.run(t, "migrate").want(t, 0, "the mapping is applied: 0 rows and 0 stored events changed")

	// Back to the default: what was kept out comes from LeadGrid again.
	delete(w.env, "LEADGRID_MAPPINGS")
	w.run(t, "migrate").want(t, 0, "the mapping is applied")
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantEqual(t)
	if said := w.run(t, "migrate"); strings.Contains(said.out, "the mapping is applied") {
		t.Errorf("the default was applied again: %s", said.out)
	}
}

func TestEraseContact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(tiny)
	contact, err := w.CreateContact(leadgridtest.Fields{"full_name": "Zqxwv Qwyjibo", "email": "zqxwv@qwyjibo.example"})
	if err != nil {
		t.Fatal(err)
	}
	about, err := w.CreateDossier(leadgridtest.Fields{"type": "candidate", "name": "Z. Qwyjibo", "email": "zqxwv@qwyjibo.example"})
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, "sync", "--wait").want(t, 0, equal)

	w.run(t, "erase", "contact").want(t, exitUsage, "give one id, that of the contact: worker erase contact ID")
	w.run(t, "erase", "contact", "nobody").want(t, 0, "nothing about them was found")
	first := w.run(t, "erase", "contact", contact)
	first.want(t, 0, "contact "+contact+" was erased at ")
	first.want(t, 0, about+"   kept   same e-mail")
	if strings.Contains(strings.ToLower(first.out+first.errs), "qwyjibo") {
		t.Errorf("the certificate names the person:\n%s", first.out)
	}
	w.run(t, "erase", "contact", contact, "--with-dossiers=unknown").want(t, exitFailed, "dossier unknown is not about this person")
	second := w.run(t, "erase", "contact", contact, "--with-dossiers", "--json")
	var certificate mirror.Certificate
	if err := json.Unmarshal([]byte(second.out), &certificate); err != nil || second.code != 0 {
		t.Fatalf("it ended with %d, %v: %s%s", second.code, err, second.out, second.errs)
	}
	if len(certificate.Dossiers) != 1 || certificate.Dossiers[0].ID != about || !certificate.Dossiers[0].Erased {
		t.Errorf("the certificate has the dossiers %+v, want %s erased", certificate.Dossiers, about)
	}
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantOne(t, `SELECT count(*)::text FROM contacts c, dossiers d WHERE (to_jsonb(c)::text || to_jsonb(d)::text) ~* 'qwyjibo'`, "0")
	w.run(t, "verify").want(t, 0, equal)
}

func TestReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(tiny)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	client, err := river.NewClient(riverpgxv5.New(w.pool), &river.Config{Schema: pgtest.Schemas.Queue, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	intake := events.NewIntake(w.pool, client, events.Options{})
	defer intake.Close()
	id := w.DossierIDs()[0]
	if _, err := intake.Add(t.Context(), events.Received{
		Body: []byte(`{"id":"evt_1","type":"dossier.updated","data":{"id":"` + id + `"}}`), At: time.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	eventually.True(t, "the event to be processed", func() bool {
		return w.one(t, `SELECT count(*)::text FROM sync_flushes WHERE done_at IS NULL`) == "0"
	})
	if _, err := w.pool.Exec(t.Context(), `UPDATE dossiers SET name = 'somebody else', _hash = 0 WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	w.run(t, "replay").want(t, exitUsage, "say since when")
	w.run(t, "replay", "--since", "yesterday").want(t, exitUsage, `--since "yesterday" is neither a time like`)
	w.run(t, "replay", "--since", "1h", "--type", "note.created").want(t, 0, `no event of type "note.created" is kept`)
	w.run(t, "replay", "--since", "1h", "--json").want(t, 0, `"events":1`)
	eventually.True(t, "the replay to heal the row", func() bool {
		return w.one(t, `SELECT count(*)::text FROM dossiers WHERE name = 'somebody else'`) == "0"
	})
	w.wantEqual(t)
}
