package mirror_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// under returns the fixture as it is under another mapping, once that has been applied.
func (f *fixture) under(file string) *fixture {
	f.t.Helper()
	mapping, err := mappings.Parse([]byte(file), "not a real key, only long")
	if err != nil {
		f.t.Fatal(err)
	}
	mapped := &fixture{Mirror: mirror.New(f.pool, mirror.Options{Lag: lag, Mapping: mapping}), t: f.t, pool: f.pool}
	mapped.remap()
	return mapped
}

func (f *fixture) remap() mirror.Remapped {
	f.t.Helper()
	remapped, err := f.Remap(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return remapped
}

// versions lists the versions of the dossiers: what they said, and whether each begins where the one before it ended.
func (f *fixture) versions() string {
	f.t.Helper()
	return f.one(`
		SELECT string_agg(concat_ws(' ', id, name, email, CASE WHEN valid_to IS NULL THEN 'now' WHEN valid_to <= valid_from THEN 'no time' END,
		                            CASE WHEN valid_from > ended THEN 'after a gap' WHEN valid_from < ended THEN 'overlapping' END), ', '
		                  ORDER BY id, valid_from)
		FROM (SELECT *, lag(valid_to) OVER (PARTITION BY id ORDER BY valid_from) AS ended FROM dossiers_history) v`)
}

func TestHistoryKeepsEveryVersion(t *testing.T) {
	plain := newFixture(t)
	plain.apply(get(plain.begin(), `{"id":"d","name":"before"}`))
	plain.want("versions before history is on", plain.versions(), "<null>")

	f := plain.under("dossiers:\n  history: on\n")
	f.want("what begins with it", f.versions(), "d before now")
	f.want("from when", f.one(`SELECT (h.valid_from = d._changed_at)::text FROM dossiers_history h JOIN dossiers d USING (id)`), "true")
	f.apply(list(f.begin(), `{"id":"d","name":"a"}`, `{"id":"e","name":"x"}`))
	f.want("after a list", f.versions(), "d before, d a now, e x now")
	f.apply(list(f.begin(), `{"id":"d","name":"a"}`, `{"id":"e","name":"x"}`))
	f.want("after the same list again", f.versions(), "d before, d a now, e x now")

	// Two changes in one transaction are two versions, each with a time of its own.
	err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		for _, object := range []string{`{"id":"d","name":"b"}`, `{"id":"d","name":"c"}`} {
			if _, err := f.Apply(t.Context(), tx, get(f.begin(), object)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.want("after two changes at once", f.versions(), "d before, d a, d b, d c now, e x now")
	// A change that is rolled back leaves nothing, as it is the same statement.
	if err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		if _, err := f.Apply(t.Context(), tx, get(f.begin(), `{"id":"d","name":"never"}`)); err != nil {
			return err
		}
		return json.Unmarshal(nil, new(int))
	}); err == nil {
		t.Fatal("the transaction should have failed")
	}
	f.want("after a change that was rolled back", f.versions(), "d before, d a, d b, d c now, e x now")

	f.exec(`UPDATE dossiers SET _deleted_at = now(), _observed = nextval('observations') WHERE id = 'e'`)
	f.want("after a tombstone", f.versions(), "d before, d a, d b, d c now, e x")
	f.apply(get(f.begin(), `{"id":"e","name":"x"}`))
	f.want("when it is back", f.versions(), "d before, d a, d b, d c now, e x, e x now after a gap")

	// Off and on again: what changed meanwhile is a gap, what did not goes on.
	off := f.under("dossiers:\n  history: off\n")
	off.apply(get(off.begin(), `{"id":"e","name":"unseen"}`))
	off.want("after it is turned off", off.versions(), "d before, d a, d b, d c, e x, e x after a gap")
	on := off.under("dossiers:\n  history: on\n")
	on.want("after it is on again", on.versions(), "d before, d a, d b, d c, d c now, e x, e x after a gap, e unseen now after a gap")
}

func TestPromise11_HistoryObeysMappingAndErasure(t *testing.T) {
	f := newFixture(t).under("dossiers:\n  history: on\n")
	f.apply(get(f.begin(), `{"id":"d","name":"Zqxwv","email":"z@zqxwv.be","status":"active","secret":"zqxwv"}`))
	f.apply(get(f.begin(), `{"id":"d","name":"Zqxwv-Smith","email":"z@zqxwv.be","status":"won","secret":"zqxwv"}`))
	f.want("planted", f.one(`SELECT count(*)::text FROM dossiers_history h WHERE to_jsonb(h)::text ~* 'zqxwv'`), "2")

	// A stricter mapping reaches back; a column that it adds is filled in old versions too, and it makes no version itself.
	f = f.under("dossiers:\n  history: on\n  fields: {name: hash, email: domain, secret: leave out}\n  columns:\n    domain: {from: email, type: text}\n")
	f.want("names", f.one(`SELECT count(DISTINCT name)::text FROM dossiers_history WHERE name ~ '^hmac:' AND _raw->>'name' = name AND domain = '@zqxwv.be' AND email = domain`), "2")
	f.want("what was left out", f.one(`SELECT count(*)::text FROM dossiers_history h WHERE to_jsonb(h)::text ~ 'secret|Zqxwv'`), "0")
	f.want("versions", f.one(`SELECT count(*)::text FROM dossiers_history`), "2")
	if again := f.remap(); again != (mirror.Remapped{}) {
		t.Errorf("applied again the mapping changed %+v, want nothing", again)
	}
	f.apply(get(f.begin(), `{"id":"d","name":"Zqxwv-Jones","email":"z@zqxwv.be","status":"lost","secret":"zqxwv"}`))
	f.want("a version under the mapping", f.one(`SELECT count(*)::text FROM dossiers_history h WHERE to_jsonb(h)::text ~ 'secret|Zqxwv'`), "0")

	contact := mirror.Read{Observation: f.begin(), Kind: mappings.Contacts, Endpoint: mirror.GetContact, Whole: true, Proven: true,
		Objects: []json.RawMessage{[]byte(`{"id":"c","full_name":"Somebody Else","email":"z@zqxwv.be"}`)}}
	f.apply(contact)
	f.exec(`UPDATE contacts SET email = '@zqxwv.be' WHERE id = 'c'`) // the same, as the dossier has it
	err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := f.Erase(t.Context(), tx, mirror.Erasure{Contacts: []string{"c"}, Reason: mirror.ErasedByCommand, WithDossiers: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.want("ids and times after the erasure",
		f.one(`SELECT count(*)::text FROM dossiers_history WHERE num_nonnulls(name, email, domain, _raw) = 0 AND status IS NOT NULL AND valid_from IS NOT NULL`), "3")
}

// A worker that has not been restarted since another mapping was applied writes no row: neither what it has asked LeadGrid for
// before, nor anything after.
func TestPromise12_OldWorkerWritesNothingUnderANewMapping(t *testing.T) {
	old := newFixture(t)
	old.apply(get(old.begin(), `{"id":"d","name":"a","email":"a@x.be"}`))
	asked := old.begin()
	fresh := old.under("dossiers:\n  fields: {email: leave out}\n  columns:\n    mail: {from: email, type: text}\n")
	if _, err := old.try(get(asked, `{"id":"d","name":"b","email":"zqxwv@x.be"}`)); !errors.Is(err, mirror.ErrOtherMapping) {
		t.Errorf("what was asked for before gives %v, want ErrOtherMapping", err)
	}
	if _, err := old.Begin(t.Context()); !errors.Is(err, mirror.ErrOtherMapping) {
		t.Errorf("Begin gives %v, want ErrOtherMapping", err)
	}
	fresh.want("row", fresh.one(`SELECT concat_ws(' ', name, email, mail) FROM dossiers`), "a")
	fresh.apply(get(fresh.begin(), `{"id":"d","name":"b","email":"zqxwv@x.be"}`))
	fresh.want("row as the new mapping has it", fresh.one(`SELECT concat_ws(' ', name, email, mail, _raw) FROM dossiers`), `b {"id": "d", "name": "b"}`)
	// Restarted with what it had, after that has been applied again.
	old.remap()
	old.apply(get(old.begin(), `{"id":"d","name":"b","email":"zqxwv@x.be"}`))
	old.want("row as before", old.one(`SELECT concat_ws(' ', name, email) FROM dossiers`), "b zqxwv@x.be")
}

func TestPromise12_ObjectWithoutIDKeepsOnlyItsHashUnderAMapping(t *testing.T) {
	f := newFixture(t).under("dossiers:\n  fields: {email: leave out}\n")
	f.apply(list(f.begin(), `{"id":"d","name":"a"}`, `{"email":"zqxwv@x.be"}`, `"zqxwv"`))
	f.want("kept aside", f.one(`SELECT count(*) FILTER (WHERE convert_from(body, 'UTF8') ~ '^sha256:[0-9a-f]{64}$') || ' of ' || count(*) FROM sync_oddities`), "2 of 2")
}
