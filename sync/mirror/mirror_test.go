package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// lag is long enough for a test to tell its two sides apart, and never waited for: times are set in the database.
const lag = time.Hour

type fixture struct {
	*mirror.Mirror
	t    *testing.T
	pool *pgxpool.Pool
}

func newFixture(t *testing.T) *fixture {
	pool := pgtest.New(t)
	return &fixture{Mirror: mirror.New(pool, mirror.Options{Lag: lag}), t: t, pool: pool}
}

func (f *fixture) begin() mirror.Observation {
	f.t.Helper()
	at, err := f.Begin(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return at
}

func (f *fixture) try(read mirror.Read) (applied mirror.Applied, err error) {
	err = f.InTx(f.t.Context(), func(tx pgx.Tx) error {
		applied, err = f.Mirror.Apply(f.t.Context(), tx, read)
		return err
	})
	return applied, err
}

func (f *fixture) apply(read mirror.Read) mirror.Applied {
	f.t.Helper()
	applied, err := f.try(read)
	if err != nil {
		f.t.Fatal(err)
	}
	return applied
}

// get and list are reads of dossiers that began at the given place.
func get(at mirror.Observation, object string) mirror.Read {
	return mirror.Read{Observation: at, Kind: mappings.Dossiers, Endpoint: mirror.GetDossier, Whole: true, Proven: true,
		Objects: []json.RawMessage{json.RawMessage(object)}}
}

func list(at mirror.Observation, objects ...string) mirror.Read {
	read := mirror.Read{Observation: at, Kind: mappings.Dossiers, Endpoint: mirror.ListDossiers, Whole: true, Proven: true}
	for _, object := range objects {
		read.Objects = append(read.Objects, json.RawMessage(object))
	}
	return read
}

func thin(at mirror.Observation, objects ...string) mirror.Read {
	read := list(at, objects...)
	read.Whole = false
	return read
}

func (f *fixture) one(query string, args ...any) (text string) {
	f.t.Helper()
	var value *string
	err := f.pool.QueryRow(f.t.Context(), query, args...).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return "<no row>"
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if value == nil {
		return "<null>"
	}
	return *value
}

func (f *fixture) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), query, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) want(what, got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("%s = %q, want %q", what, got, want)
	}
}

// A database that was restored to an earlier state while a read was under way gives its number to later reads once more.
func TestPromise4_ReadFromBeforeARestoreIsDoneAgain(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"restored"}`))
	f.exec(`INSERT INTO sync_doubts (kind, parent, id, reason, observation) VALUES ('dossiers', '', 'd', 'gone', 1)`)
	before := f.one(`SELECT last_value::text FROM observations`)
	for range 10 {
		f.begin()
	}
	underWay := f.begin()
	f.exec(`SELECT setval('observations', $1::text::bigint)`, before)
	for what, finish := range map[string]func(tx pgx.Tx) error{
		"an object": func(tx pgx.Tx) error {
			_, err := f.Apply(t.Context(), tx, get(underWay, `{"id":"d","name":"under way"}`))
			return err
		},
		"an empty list": func(tx pgx.Tx) error {
			page := mirror.Read{Observation: underWay, Kind: mappings.Notes, Endpoint: mirror.ListNotes, Whole: true}
			_, err := f.ApplyComplete(t.Context(), tx, mirror.Complete{Kind: mappings.Notes, Parent: "d", First: underWay, Pages: []mirror.Read{page}})
			return err
		},
		"a 404": func(tx pgx.Tx) error {
			_, err := f.NotFound(t.Context(), tx, mappings.Dossiers, "d", underWay)
			return err
		},
		"a note": func(tx pgx.Tx) error {
			return f.NoteRead(t.Context(), tx, mirror.LedgerTail, "d", underWay)
		},
		"a tombstone": func(tx pgx.Tx) error {
			_, err := f.Tombstone(t.Context(), tx, mappings.Dossiers, []string{"d"}, underWay)
			return err
		},
	} {
		if err := f.InTx(t.Context(), finish); !errors.Is(err, mirror.ErrRewound) {
			t.Errorf("%s: %v, want ErrRewound", what, err)
		}
	}
	f.want("reads in the ledger that nothing can follow", f.one(`SELECT count(*)::text FROM sync_reads WHERE observation >= $1`, underWay.Number), "0")
	f.apply(get(f.begin(), `{"id":"d","name":"read again"}`))
	f.want("name", f.one(`SELECT name FROM dossiers WHERE _deleted_at IS NULL`), "read again")
}

func TestPromise4_OlderReadThatFinishesLaterIsRefused(t *testing.T) {
	for _, first := range []string{"GET", "list"} {
		for _, second := range []string{"GET", "list"} {
			t.Run(fmt.Sprintf("%s begun before %s", first, second), func(t *testing.T) {
				f := newFixture(t)
				read := map[string]func(mirror.Observation, string) mirror.Read{
					"GET": get, "list": func(at mirror.Observation, object string) mirror.Read { return list(at, object) },
				}
				f.apply(get(f.begin(), `{"id":"d","name":"new"}`))
				older, newer := f.begin(), f.begin()
				// The newer read finds nothing changed, and so leaves no trace in the row.
				f.apply(read[second](newer, `{"id":"d","name":"new"}`))
				applied := f.apply(read[first](older, `{"id":"d","name":"old"}`))
				if applied.Stale != 1 {
					t.Errorf("Stale = %d, want 1", applied.Stale)
				}
				f.want("name", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), "new")
			})
		}
	}
}

// Reads that are applied together are judged one by one, against the ledger and against each other.
func TestPromise4_ReadsAppliedTogether(t *testing.T) {
	f := newFixture(t)
	first, second, third, fourth := f.begin(), f.begin(), f.begin(), f.begin()
	f.apply(list(fourth, `{"id":"a","name":"newest"}`))
	var many []string
	for i := range 30 { // enough of them for a COPY
		many = append(many, fmt.Sprintf(`{"id":"%d","name":"tab\tand \\ and \u0000"}`, i))
	}
	var applied []mirror.Applied
	err := f.InTx(t.Context(), func(tx pgx.Tx) (err error) {
		applied, err = f.ApplyAll(t.Context(), tx, []mirror.Read{
			list(third, append(many, `{"id":"a","name":"older"}`, `{"id":"b","name":"3"}`, `{"id":"c","name":"same"}`)...),
			list(first, `{"id":"b","name":"1"}`, `{"id":"c","name":"same"}`, `{"id":"d","name":"only here"}`),
			list(second, `{"id":"b","name":"2"}`),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.want("a, which a later read told about", f.one(`SELECT name FROM dossiers WHERE id = 'a'`), "newest")
	f.want("b, which three reads of the batch show", f.one(`SELECT name || ' ' || _observed FROM dossiers WHERE id = 'b'`), fmt.Sprint(3, third.Number))
	f.want("c, which did not change", f.one(`SELECT name || ' ' || _observed FROM dossiers WHERE id = 'c'`), fmt.Sprint("same ", first.Number))
	f.want("d", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), "only here")
	f.want("odd text", f.one(`SELECT name FROM dossiers WHERE id = '7'`), "tab\tand \\ and \uFFFD")
	f.want("its original", f.one(`SELECT convert_from(_original, 'UTF8') FROM dossiers WHERE id = '7'`), many[7])
	if a := applied[0]; a.Stale != 1 || a.Changed != 31 || a.Unchanged != 1 {
		t.Errorf("the last read: %d stale, %d changed, %d unchanged", a.Stale, a.Changed, a.Unchanged)
	}
}

// A GET and a page told about the dossier, one before our read and one after it, and both after another read of ours.
func TestPromise4_TheLastOfPagesAndGETsCounts(t *testing.T) {
	f := newFixture(t)
	first, second, third, fourth := f.begin(), f.begin(), f.begin(), f.begin()
	f.apply(list(second, `{"id":"a","name":"2"}`))
	f.apply(get(fourth, `{"id":"a","name":"4"}`))
	err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := f.ApplyAll(t.Context(), tx, []mirror.Read{list(first, `{"id":"b"}`), list(third, `{"id":"a","name":"3"}`)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.want("the dossier", f.one(`SELECT name FROM dossiers WHERE id = 'a'`), "4")
}

func TestPromise4_ConcurrentReadsEndWithTheNewest(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"0"}`))
	const reads = 40
	failures := make(chan error, reads)
	for i := range reads {
		at := f.begin()
		go func() {
			object := fmt.Sprintf(`{"id":"d","name":"%d"}`, i+1)
			read := get(at, object)
			if i%2 == 0 {
				read = list(at, object, `{"id":"other"}`)
			}
			_, err := f.try(read)
			failures <- err
		}()
	}
	for range reads {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
	f.want("name", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), fmt.Sprint(reads))
}

func TestPromise4_OlderUpdatedAtIsRefusedUntilNoReplicaCanLag(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"new","updated_at":"2026-01-02T00:00:00Z"}`))
	lagging := `{"id":"d","name":"old","updated_at":"2026-01-01T00:00:00Z"}`

	applied := f.apply(get(f.begin(), lagging))
	if diff := cmp.Diff([]string{"d"}, applied.Older); diff != "" {
		t.Error(diff)
	}
	f.want("name", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), "new")
	f.want("ledger", f.one(`SELECT count(*)::text FROM sync_reads WHERE kind = 'dossiers' AND observation > 1`), "0")

	// The same, long after: LeadGrid's own data went back.
	f.exec(`UPDATE sync_doubts SET since = since - 3 * $1::interval`, lag)
	f.apply(get(f.begin(), lagging))
	f.want("name", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), "old")
}

// A row that was shown older than it is known, and is then not there at all, is in doubt no more: only a complete sweep that
// does not see it says anything.
func TestPromise5_MissingIsNotOlder(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"new","updated_at":"2026-01-02T00:00:00Z"}`))
	f.apply(get(f.begin(), `{"id":"d","name":"old","updated_at":"2026-01-01T00:00:00Z"}`))
	f.want("doubt", f.one(`SELECT reason FROM sync_doubts`), "older")
	err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		confirmed, err := f.NotFound(t.Context(), tx, mappings.Dossiers, "d", f.begin())
		if confirmed {
			t.Error("it is taken for gone")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.want("doubt after the 404", f.one(`SELECT reason FROM sync_doubts`), "<no row>")
	f.want("row", f.one(`SELECT name FROM dossiers WHERE _deleted_at IS NULL`), "new")
}

func TestPromise4_EqualUpdatedAtProvesNothing(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"a","updated_at":"2026-01-02T00:00:00Z"}`))
	f.apply(get(f.begin(), `{"id":"d","name":"b","updated_at":"2026-01-02T00:00:00Z"}`))
	f.want("name", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), "b")
}

func TestPromise9_NothingChangedNothingWritten(t *testing.T) {
	f := newFixture(t)
	object := `{"id":"d","name":"Ana","deal_size":1500.50,"created_at":"2026-01-02T03:04:05Z","email":null,"more":{"a":[1,2],"b":"é"}}`
	f.apply(get(f.begin(), object))
	version := func() string {
		return f.one(`SELECT ctid::text || xmin::text || _observed::text FROM dossiers WHERE id = 'd'`)
	}
	before := version()
	for name, read := range map[string]mirror.Read{
		"the same GET":                 get(f.begin(), object),
		"a list":                       list(f.begin(), object),
		"a thin list":                  thin(f.begin(), `{"id":"d","name":"Ana"}`),
		"other order":                  get(f.begin(), `{"name":"Ana","more":{"b":"é","a":[1,2]},"id":"d","deal_size":1500.50,"created_at":"2026-01-02T03:04:05Z","email":null}`),
		"null left out":                get(f.begin(), `{"id":"d","name":"Ana","deal_size":1500.50,"created_at":"2026-01-02T03:04:05Z","more":{"a":[1,2],"b":"é"}}`),
		"number and escapes rewritten": get(f.begin(), `{"id":"d","name":"A\u006ea","deal_size":15005e-1,"created_at":"2026-01-02T03:04:05Z","more":{"a":[1.0,2],"b":"\u00e9"}}`),
		"time in another offset":       get(f.begin(), `{"id":"d","name":"Ana","deal_size":1500.5,"created_at":"2026-01-02T04:04:05.000+01:00","more":{"a":[1,2],"b":"é"}}`),
	} {
		if applied := f.apply(read); applied.Changed != 0 {
			t.Errorf("%s: %d rows changed", name, applied.Changed)
		}
		f.want(name+": row version", version(), before)
	}
}

// A list may tell times with fewer digits than a GET; what else it tells counts.
func TestPromise9_CutTimesAreNoChange(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"Ana","created_at":"2026-01-02T03:04:05.123456Z","updated_at":"2026-01-02T03:04:06.5Z"}`))
	for _, list := range []mirror.Read{
		list(f.begin(), `{"id":"d","name":"Ana","created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:06Z"}`),
		list(f.begin(), `{"id":"d","name":"Ana","created_at":"2026-01-02T04:04:05.123+01:00","updated_at":"2026-01-02T03:04:06.500Z"}`),
	} {
		if applied := f.apply(list); applied.Changed != 0 || len(applied.Older) != 0 {
			t.Errorf("%s: %+v", list.Objects[0], applied)
		}
	}
	f.apply(list(f.begin(), `{"id":"d","name":"Bea","created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:06Z"}`))
	f.want("a change told so", f.one(`SELECT name || ' ' || extract(microseconds FROM created_at) FROM dossiers`), "Bea 5123456")
	if applied := f.apply(list(f.begin(), `{"id":"d","name":"Cas","updated_at":"2026-01-02T03:04:05Z"}`)); len(applied.Older) != 1 {
		t.Errorf("an older time: %+v", applied)
	}
	if applied := f.apply(get(f.begin(), `{"id":"d","name":"Cas","updated_at":"2026-01-02T03:04:06Z"}`)); len(applied.Older) != 1 {
		t.Errorf("an older time in a GET: %+v", applied)
	}
}

// What Go's JSON escapes although it need not, LeadGrid may or may not escape: it is the same text.
func TestPromise9_EscapesAreNoChange(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"Ana\u2028<b>"}`))
	f.apply(thin(f.begin(), `{"id":"d","city":"Gent"}`))
	for _, object := range []string{"{\"id\":\"d\",\"name\":\"Ana\u2028<b>\"}", `{"id":"d","name":"Ana\u2028\u003cb\u003e"}`} {
		if applied := f.apply(thin(f.begin(), object)); applied.Changed != 0 {
			t.Errorf("%s was a change", object)
		}
	}
}

// A contact that LeadGrid had deleted, or seemed to have, and shows again, is whole again; one that was erased by command is not.
func TestPromise6_ContactThatComesBackIsWhole(t *testing.T) {
	for _, reason := range []string{mirror.ErasedUpstream, mirror.ErasedByCommand} {
		f := newFixture(t)
		contact := func(at mirror.Observation) mirror.Read {
			return mirror.Read{Observation: at, Kind: mappings.Contacts, Endpoint: mirror.GetContact, Whole: true, Proven: true,
				Objects: []json.RawMessage{json.RawMessage(`{"id":"c","full_name":"Ana Peeters"}`)}}
		}
		link := mirror.Read{Kind: mappings.Links, Endpoint: mirror.ListLinks, Parent: "d", Whole: true, Proven: true,
			Objects: []json.RawMessage{json.RawMessage(`{"dossier_id":"d","contact_id":"c","full_name":"Ana Peeters"}`)}}
		f.apply(get(f.begin(), `{"id":"d"}`))
		f.apply(contact(f.begin()))
		link.Observation = f.begin()
		f.apply(link)
		late := f.begin()
		if reason == mirror.ErasedByCommand {
			err := f.InTx(t.Context(), func(tx pgx.Tx) error {
				_, err := f.Erase(t.Context(), tx, mirror.Erasure{Contacts: []string{"c"}, Reason: reason})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		f.exec(`INSERT INTO sync_doubts (kind, parent, id, reason, observation) VALUES ('contacts', '', 'c', 'gone', $1)`, f.begin().Number)
		err := f.InTx(t.Context(), func(tx pgx.Tx) error {
			_, err := f.Tombstone(t.Context(), tx, mappings.Contacts, []string{"c"}, f.begin())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		f.want(reason+": once gone", f.one(`SELECT full_name FROM contacts WHERE _deleted_at IS NOT NULL`), "<null>")
		f.exec(`INSERT INTO sync_reads (kind, id, observation, began_at) VALUES ('contacts', 'c', $1, now())
			ON CONFLICT (kind, id) DO UPDATE SET observation = excluded.observation`, f.begin().Number)
		f.apply(contact(late))
		f.want(reason+": after a read from before", f.one(`SELECT full_name FROM contacts`), "<null>")
		f.want(reason+": kept out", f.one(`SELECT count(*)::text FROM erasures`), "1")

		f.apply(contact(f.begin()))
		link.Observation = f.begin()
		f.apply(link)
		name := "Ana Peeters"
		if reason == mirror.ErasedByCommand {
			name = "<null>"
		}
		f.want(reason+": back", f.one(`SELECT full_name FROM contacts WHERE _deleted_at IS NULL`), name)
		f.want(reason+": its link", f.one(`SELECT full_name FROM dossier_contacts WHERE _deleted_at IS NULL`), name)
		f.want(reason+": marked as erased", f.one(`SELECT (_erased_at IS NOT NULL)::text FROM contacts`), fmt.Sprint(name == "<null>"))
	}
}

func TestAbsenceMeansNullOnlyWhereTheEndpointHasShownTheKey(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"Ana","city":"Gent"}`))
	f.apply(get(f.begin(), `{"id":"e","email":"e@example.org","extra":1}`))
	city := func() string { return f.one(`SELECT city FROM dossiers WHERE id = 'd'`) }

	f.apply(list(f.begin(), `{"id":"d","name":"Ana"}`))
	f.want("city after a list that never shows it", city(), "Gent")
	f.apply(thin(f.begin(), `{"id":"d","city":"Brugge"}`))
	f.want("city after a thin list that shows it", city(), "Brugge")
	f.apply(thin(f.begin(), `{"id":"d"}`))
	f.want("city after a thin list that leaves it out", city(), "Brugge")
	f.apply(get(f.begin(), `{"id":"d","name":"Ana"}`))
	f.want("city after a GET that leaves it out", city(), "<null>")
	f.apply(get(f.begin(), `{"id":"e"}`))
	f.want("unknown field that a GET leaves out", f.one(`SELECT _raw->>'extra' FROM dossiers WHERE id = 'e'`), "<null>")
}

func TestThinListAddsNoRow(t *testing.T) {
	f := newFixture(t)
	applied := f.apply(thin(f.begin(), `{"id":"d","name":"Ana"}`))
	if diff := cmp.Diff([]string{"d"}, applied.Thin); diff != "" {
		t.Error(diff)
	}
	f.want("row", f.one(`SELECT name FROM dossiers WHERE id = 'd'`), "<no row>")
}

func TestPromise12_OddValuesLandAndAreKept(t *testing.T) {
	f := newFixture(t)
	object := `{"id":"d","name":"a\u0000b","deal_size":"12abc","created_at":"yesterday","status":"hatched","planet":{"x":"\ud800"}}`
	f.apply(get(f.begin(), object))
	f.want("name", f.one(`SELECT name FROM dossiers`), "a\uFFFDb")
	f.want("deal_size", f.one(`SELECT deal_size::text FROM dossiers`), "<null>")
	f.want("its value in _raw", f.one(`SELECT _raw->>'deal_size' FROM dossiers`), "12abc")
	f.want("created_at", f.one(`SELECT created_at::text FROM dossiers`), "<null>")
	f.want("unknown status", f.one(`SELECT status FROM dossiers`), "hatched")
	f.want("unknown field", f.one(`SELECT _raw->'planet'->>'x' FROM dossiers`), "\uFFFD")
	f.want("original", f.one(`SELECT convert_from(_original, 'UTF8') FROM dossiers`), object)

	applied := f.apply(list(f.begin(), `{"id":"d2"}`, `{"id":".."}`, `{"name":"nobody"}`, `7`, `null`))
	if applied.Odd != 4 {
		t.Errorf("Odd = %d, want 4", applied.Odd)
	}
	f.want("kept aside", f.one(`SELECT string_agg(convert_from(body, 'UTF8'), ' ' ORDER BY body) FROM sync_oddities`), `7 null {"id":".."} {"name":"nobody"}`)
}

func TestPromise5_NotesGoAfterTwoCompleteReadsOnly(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"Ana"}`))
	read := func(notes ...string) mirror.Applied {
		at := f.begin()
		page := mirror.Read{Observation: at, Kind: mappings.Notes, Endpoint: mirror.ListNotes, Whole: true}
		for _, id := range notes {
			page.Objects = append(page.Objects, json.RawMessage(fmt.Sprintf(`{"id":%q,"dossier_id":"d","content":"x"}`, id)))
		}
		var applied mirror.Applied
		err := f.InTx(t.Context(), func(tx pgx.Tx) (err error) {
			applied, err = f.ApplyComplete(t.Context(), tx, mirror.Complete{Kind: mappings.Notes, Parent: "d", First: at, Pages: []mirror.Read{page}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return applied
	}
	live := func() string {
		return f.one(`SELECT string_agg(id, ' ' ORDER BY id) FROM notes WHERE _deleted_at IS NULL`)
	}

	read("a", "b")
	read("a")
	read("a")
	f.want("live while a replica may hide a note that is new", live(), "a b")
	f.exec(`UPDATE notes SET _changed_at = _changed_at - 2 * $1::interval`, lag)
	f.exec(`DELETE FROM sync_doubts`)
	read("a")
	f.want("live after one complete read without it", live(), "a b")
	read("a", "b")
	read("a")
	f.want("live after a sighting in between", live(), "a b")
	if applied := read("a"); len(applied.Deleted) != 1 {
		t.Errorf("Deleted = %v, want b", applied.Deleted)
	}
	f.want("live after two complete reads without it", live(), "a")
	read("a", "b")
	f.want("live when it is back", live(), "a b")
}

func TestPromise5_OtherOrganizationIsRefused(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","organization_id":"ours"}`))
	read := get(f.begin(), `{"id":"x","organization_id":"theirs"}`)
	if _, err := f.try(read); !errors.Is(err, mirror.ErrOtherOrganization) {
		t.Errorf("err = %v, want ErrOtherOrganization", err)
	}
	read = get(f.begin(), `{"id":"x"}`)
	read.Proven = false
	if _, err := f.try(read); !errors.Is(err, mirror.ErrUnproven) {
		t.Errorf("err = %v, want ErrUnproven", err)
	}
	f.want("rows", f.one(`SELECT string_agg(id, ' ') FROM dossiers`), "d")
}

func TestStageHistory(t *testing.T) {
	f := newFixture(t)
	ctx := context.WithoutCancel(t.Context())
	history := func() string {
		return f.one(`SELECT string_agg(stage_id || ' ' || source, ', ' ORDER BY coalesce(entered_at, entered_before)) FROM dossier_stage_history`)
	}
	f.apply(get(f.begin(), `{"id":"d","current_stage_id":"s1"}`))
	f.want("history", history(), "s1 observed")

	// An observation that an event then tells more exactly.
	moved := f.begin()
	f.apply(get(moved, `{"id":"d","current_stage_id":"s2"}`))
	record := func(event, stage string, at time.Time) {
		t.Helper()
		err := f.InTx(ctx, func(tx pgx.Tx) error {
			return f.RecordStages(ctx, tx, []mirror.StageEntered{{EventID: event, DossierID: "d", StageID: stage, At: at}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	record("evt_1", "s2", moved.BeganAt)
	record("evt_1", "s2", moved.BeganAt)
	f.want("history", history(), "s1 observed, s2 event")

	// And an event that the observation then confirms.
	later := f.begin()
	record("evt_2", "s3", later.BeganAt)
	f.apply(get(f.begin(), `{"id":"d","current_stage_id":"s3"}`))
	f.want("history", history(), "s1 observed, s2 event, s3 event")
}

// The history ends with the stage that the dossier is in, also where an event is lost or late, or its time is not exact.
func TestPromise7_HistoryEndsWithTheCurrentStage(t *testing.T) {
	type fact struct {
		stage string
		after time.Duration // since the first read
		event bool          // that tells of the stage; else a read that shows it
	}
	for _, c := range []struct {
		name  string
		facts []fact
		want  string
	}{
		{"the way back was not told", []fact{{"b", time.Minute, true}, {"a", 2 * lag, false}}, "a b a"},
		{"nor can a replica have hidden it", []fact{{"b", time.Minute, true}, {"a", time.Minute + lag/2, false}}, "a b"},
		{"a time in whole seconds", []fact{{"b", -38 * time.Millisecond, true}, {"b", time.Second, false}}, "a b"},
		{"LeadGrid's clock is behind", []fact{{"b", -3 * time.Second, true}, {"b", time.Second, false}}, "a b"},
		{"and by far too much", []fact{{"b", -time.Hour, true}, {"b", 2 * lag, false}}, "b a b"},
		{"all was told", []fact{{"b", time.Minute, true}, {"a", 2 * time.Minute, true}, {"a", 2 * lag, false}}, "a b a"},
		{"told late", []fact{{"b", 2 * time.Minute, false}, {"b", time.Minute, true}, {"b", 2 * lag, false}}, "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			ctx := context.WithoutCancel(t.Context())
			first := f.begin()
			f.apply(get(first, `{"id":"d","current_stage_id":"a"}`))
			for i, fact := range c.facts {
				at := first.BeganAt.Add(fact.after)
				if fact.event {
					err := f.InTx(ctx, func(tx pgx.Tx) error {
						return f.RecordStages(ctx, tx, []mirror.StageEntered{{EventID: fmt.Sprint(i), DossierID: "d", StageID: fact.stage, At: at}})
					})
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				f.apply(get(mirror.Observation{Number: f.begin().Number, BeganAt: at}, fmt.Sprintf(`{"id":"d","current_stage_id":%q}`, fact.stage)))
			}
			for range 2 {
				if err := f.InTx(ctx, func(tx pgx.Tx) error { return f.SettleStages(ctx, tx, []string{"d"}, time.Time{}) }); err != nil {
					t.Fatal(err)
				}
				f.want("history", f.one(`SELECT string_agg(stage_id, ' ' ORDER BY coalesce(entered_at, entered_before), id) FROM dossier_stage_history`), c.want)
			}
		})
	}
}
