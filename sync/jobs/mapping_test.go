package jobs_test

import (
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

const strictFile = `
contacts:
  history: on
  fields: {full_name: hash, email: domain, phone: leave out, linkedin_url: leave out, company: leave out, role: leave out, city: leave out, notes: leave out}
  columns:
    domain: {from: email, type: text}
dossiers:
  history: on
  fields: {name: hash, email: domain}
notes:
  raw: mapped
  fields: {content: leave out}
`

// TestPromise12_MappedOutLandsNowhere brings the planted person in under a mapping that keeps out what they are called,
// once before the mapping (worker migrate takes it out) and once under it.
func TestPromise12_MappedOutLandsNowhere(t *testing.T) {
	t.Parallel()
	mapping, err := mappings.Parse([]byte(strictFile), "not a real key, only long")
	if err != nil {
		t.Fatal(err)
	}
	before := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	before.Seed(leadgridtest.Size{Dossiers: 10, Contacts: 10, Links: 10, Notes: 10})
	contact, _, _ := plant(t, before)
	// Workers that do not know the new mapping have ended by the time it is applied.
	eventually.True(t, "the planted events to be processed", func() bool {
		return count(t, before.pool, `SELECT count(*) FROM leadgrid_queue.river_job WHERE kind IN ('leadgrid_events', 'leadgrid_recheck') AND state <> 'completed'`) == 0
	})
	// What customers built on the tables must survive.
	if _, err := before.pool.Exec(t.Context(), `CREATE VIEW theirs AS SELECT id, phone, email FROM contacts`); err != nil {
		t.Fatal(err)
	}
	remap := func(w *world) mirror.Remapped {
		t.Helper()
		m := mirror.New(w.pool, mirror.Options{Mapping: mapping})
		remapped, err := m.Remap(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return remapped
	}
	wantKeptOut := func(w *world, id string) {
		t.Helper()
		// Commands and jobs are the customer's own texts; domain and company of an address stay where they are wanted.
		for table, line := range foundIn(t, w.pool) {
			switch table {
			case "commands", "command_cvs", "leadgrid_queue.river_job":
			case "contacts", "contacts_history", "dossier_contacts", "dossiers", "dossiers_history", "webhook_events":
			default:
				t.Errorf("%s still holds what was mapped out: %s", table, line)
			}
		}
		for _, sql := range []string{
			`SELECT count(*) FROM contacts WHERE to_jsonb(contacts)::text ~* 'qwyjibo|zizi|Zqxwvé|470 99|zqxwvgem|was here'`,
			`SELECT count(*) FROM contacts WHERE encode(_original, 'escape') ~* 'zizi|was here'`,
			`SELECT count(*) FROM contacts_history h WHERE to_jsonb(h)::text ~* 'qwyjibo|zizi|Zqxwvé|470 99|zqxwvgem|was here'`,
			`SELECT count(*) FROM dossiers_history h WHERE to_jsonb(h)::text ~* 'qwyjibo'`,
			`SELECT (count(*) = 0)::int::bigint FROM contacts_history WHERE id = '` + id + `' AND valid_to IS NULL`,
			`SELECT count(*) FROM dossier_contacts WHERE to_jsonb(dossier_contacts)::text ~* 'qwyjibo|zizi'`,
			`SELECT count(*) FROM dossiers WHERE to_jsonb(dossiers)::text ~* 'qwyjibo'`,
			`SELECT count(*) FROM webhook_events WHERE (payload -> 'data')::text ~* 'qwyjibo' OR body <> ''`,
			`SELECT count(*) - 1 FROM contacts WHERE id = '` + id + `' AND full_name ~ '^hmac:' AND email = '@zqxwv.example' AND domain = email AND phone IS NULL`,
		} {
			if n := count(t, w.pool, sql); n != 0 {
				t.Errorf("%s gives %d, want 0", sql, n)
			}
		}
	}
	if remapped := remap(before); remapped.Rows == 0 || remapped.Events == 0 {
		t.Errorf("the mapping changed %+v, want rows and events", remapped)
	}
	wantKeptOut(before, contact)
	if again := remap(before); again != (mirror.Remapped{}) {
		t.Errorf("applied again the mapping changed %+v, want nothing", again)
	}
	if n := count(t, before.pool, `SELECT count(*) FROM theirs`); n < 11 {
		t.Errorf("the customer's view has %d rows", n)
	}

	under := newWorld(t, leadgridtest.Options{}, jobs.Config{Mapping: mapping})
	remap(under)
	under.Seed(leadgridtest.Size{Dossiers: 10, Contacts: 10, Links: 10, Notes: 10})
	id, err := under.CreateContact(planted)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s := under.sync(t); s.State != sweep.Done {
			t.Fatalf("sweep ended as %s: %v", s.State, s.Message)
		}
	}
	wantKeptOut(under, id)
	version := count(t, under.pool, `SELECT sum(xmin::text::bigint)::bigint FROM contacts`)
	under.sync(t)
	if again := count(t, under.pool, `SELECT sum(xmin::text::bigint)::bigint FROM contacts`); again != version {
		t.Error("a sweep that found nothing new wrote mapped rows again (promise 9)")
	}
}
