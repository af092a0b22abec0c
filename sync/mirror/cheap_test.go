package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// contacts is a page of the unfiltered list, or of the list by pool.
func contacts(at mirror.Observation, endpoint mirror.Endpoint, objects ...string) mirror.Read {
	read := mirror.Read{Observation: at, Kind: mappings.Contacts, Endpoint: endpoint, Whole: true, Proven: true}
	for _, object := range objects {
		read.Objects = append(read.Objects, json.RawMessage(object))
	}
	return read
}

// The unfiltered list does not tell a contact's pool: it takes none away, and a contact that is otherwise the same is the same.
func TestPromise9_ThePoolThatAListDoesNotTell(t *testing.T) {
	f := newFixture(t)
	f.apply(contacts(f.begin(), mirror.ListContactsByPool, `{"id":"c","full_name":"Ann","pool":"in_pool"}`))
	version := f.one(`SELECT xmin || ' ' || ctid FROM contacts`)

	if applied := f.apply(contacts(f.begin(), mirror.ListContacts, `{"full_name":"Ann","id":"c","city":null}`)); applied.Unchanged != 1 {
		t.Errorf("the same contact without its pool: %+v", applied)
	}
	f.want("its row version", f.one(`SELECT xmin || ' ' || ctid FROM contacts`), version)

	f.apply(contacts(f.begin(), mirror.ListContacts, `{"id":"c","full_name":"Anna"}`))
	f.want("another name", f.one(`SELECT concat_ws(' ', full_name, pool, _raw ->> 'pool') FROM contacts`), "Anna in_pool in_pool")

	// Once the list does tell it, what it leaves out is null.
	f.apply(contacts(f.begin(), mirror.ListContacts, `{"id":"c","full_name":"Anna"}`, `{"id":"d","full_name":"Dan","pool":null}`))
	f.apply(contacts(f.begin(), mirror.ListContacts, `{"id":"c","full_name":"Anna"}`))
	f.want("a list that tells the pool", f.one(`SELECT coalesce(pool, 'none') FROM contacts WHERE id = 'c'`), "none")
}

// A connection keeps the plans that it made while the tables were empty.
func TestAPageNeverReadsAWholeTable(t *testing.T) {
	f := newFixture(t)
	config := f.pool.Config()
	config.MaxConns = 1
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	f.exec(`VACUUM ANALYZE contacts`)
	apply := func(read mirror.Read) (scans string) {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Apply(t.Context(), tx, read); err != nil {
			t.Fatal(err)
		}
		err = tx.QueryRow(t.Context(), `SELECT coalesce(seq_scan, 0)::text FROM pg_stat_xact_user_tables WHERE relname = 'contacts'`).Scan(&scans)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return scans
	}
	page := func(name string) (objects []string) {
		for i := range 100 {
			objects = append(objects, fmt.Sprintf(`{"id":"c%d","full_name":"%s"}`, i, name))
		}
		return objects
	}
	for i := range 8 { // plans settle with the sixth execution
		f.want("whole scans of a table with few rows", apply(contacts(f.begin(), mirror.ListContacts, page(fmt.Sprint("Ann", i))...)), "0")
	}
}

// Many who ask at once are served together; each gets a number of its own that was taken after it asked.
func TestPromise4_ObservationsTakenTogether(t *testing.T) {
	f := newFixture(t)
	before := f.begin()
	given := make([]mirror.Observation, 64)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var group sync.WaitGroup
	for i := range given {
		group.Go(func() {
			if i%8 == 7 { // gives up: the others get theirs all the same
				if _, err := f.Begin(cancelled); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			for range 4 {
				at, err := f.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if at.Number <= max(given[i].Number, before.Number) || at.BeganAt.Before(given[i].BeganAt) {
					t.Errorf("%v after %v", at, given[i])
				}
				given[i] = at
			}
		})
	}
	group.Wait()
	seen := make(map[int64]bool)
	for i, at := range given {
		if i%8 != 7 && seen[at.Number] {
			t.Errorf("%d was given twice", at.Number)
		}
		seen[at.Number] = true
	}
	if after := f.begin(); seen[after.Number] || after.Number <= before.Number+4*56 {
		t.Errorf("%d after %d and %d others", after.Number, before.Number, 4*56)
	}
}

// Pages that are applied together each keep their own row in the ledger.
func TestPromise4_PagesAppliedTogether(t *testing.T) {
	f := newFixture(t)
	first, second, later := f.begin(), f.begin(), f.begin()
	err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := f.ApplyAll(t.Context(), tx, []mirror.Read{
			contacts(second, mirror.ListContacts, `{"id":"b"}`, `{"id":"c"}`), contacts(first, mirror.ListContacts, `{"id":"a"}`, `{"id":"b"}`, `{"id":"d"}`),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := func(at mirror.Observation) string {
		return f.one(`SELECT string_agg(c.id, ' ' ORDER BY c.id) FROM sync_pages p JOIN contacts c ON hashtextextended(c.id, 0) = ANY (p.keys)
			WHERE p.observation = $1 AND p.sweep IS NULL AND p.pass IS NULL AND p.filter IS NULL`, at.Number)
	}
	f.want("what the pages showed", seen(first)+", "+seen(second)+", "+f.one(`SELECT count(*)::text FROM sync_pages`), "a b d, b c, 2")
	f.apply(contacts(later, mirror.ListContacts, `{"id":"c","full_name":"new"}`))
	f.apply(contacts(second, mirror.ListContacts, `{"id":"c","full_name":"old"}`))
	f.want("a contact shown again by an older page", f.one(`SELECT full_name FROM contacts WHERE id = 'c'`), "new")
}

// Pages that are asked for side by side may begin in any order: each is proven by what it shares with one before it in the list.
func TestPromise5_PagesProveEachOther(t *testing.T) {
	f := newFixture(t)
	f.apply(contacts(f.begin(), mirror.ListContacts, `{"id":"a"}`))
	page := func(at mirror.Observation, ids ...string) mirror.Read {
		read := mirror.Read{Observation: at, Kind: mappings.Contacts, Endpoint: mirror.ListContacts, Whole: true}
		for _, id := range ids {
			read.Objects = append(read.Objects, json.RawMessage(`{"id":"`+id+`"}`))
		}
		return read
	}
	apply := func(reads ...mirror.Read) error {
		return f.InTx(t.Context(), func(tx pgx.Tx) error {
			_, err := f.ApplyAll(t.Context(), tx, reads)
			return err
		})
	}
	first, second, third := f.begin(), f.begin(), f.begin()
	if err := apply(page(third, "a", "b"), page(second, "b", "c"), page(first, "c", "d")); err != nil {
		t.Errorf("each page shares a contact with the one before: %v", err)
	}
	if err := apply(page(f.begin(), "d", "e"), page(f.begin(), "x")); !errors.Is(err, mirror.ErrUnproven) {
		t.Errorf("a page that shares nothing: %v", err)
	}
	f.want("contacts", f.one(`SELECT string_agg(id, ' ' ORDER BY id) FROM contacts`), "a b c d")
}
