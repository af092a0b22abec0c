package sweep

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// A contact is in no pool any more. A GET of it, which says nothing of pools, begins after the write that says so, and is applied
// before it: that write is refused then, and has to be made again.
func TestPromise6_PoolIsClearedThoughAGetOvertakes(t *testing.T) {
	pool := pgtest.New(t)
	m := mirror.New(pool, mirror.Options{})
	w := New(observe.New(new(leadgridapi.Client), m, access.New(pool, time.Minute)), Options{})
	s := &Sweep{State: Running}
	apply := func(tx pgx.Tx, endpoint mirror.Endpoint, object string) {
		t.Helper()
		at, err := m.Begin(t.Context())
		if err == nil {
			_, err = m.Apply(t.Context(), tx, mirror.Read{Observation: at, Kind: mappings.Contacts, Endpoint: endpoint,
				Objects: []json.RawMessage{json.RawMessage(object)}, Whole: endpoint == mirror.GetContact, Proven: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := m.InTx(t.Context(), func(tx pgx.Tx) (err error) {
		apply(tx, mirror.GetContact, `{"id":"c"}`)
		apply(tx, mirror.ListContactsByPool, `{"id":"c","pool":"leads"}`)
		if s.ID, err = Request(t.Context(), tx, pgtest.Schemas.Queue, Full, nil, false); err != nil {
			return err
		}
		_, err = tx.Exec(t.Context(), `INSERT INTO sync_pages (kind, observation, sweep, keys) VALUES ('contacts', 0, $1, ARRAY[hashtextextended('c', 0)])`, s.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	type outcome struct {
		done bool
		err  error
	}
	cleared := make(chan outcome, 1)
	err = m.InTx(t.Context(), func(tx pgx.Tx) error {
		apply(tx, mirror.GetContact, `{"id":"c"}`) // holds the lock on contacts
		go func() {
			done, err := w.clearPool(t.Context(), s)
			cleared <- outcome{done, err}
		}()
		eventually.True(t, "the write to wait for the lock", func() bool {
			var waits bool
			err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits)
			return err == nil && waits
		})
		apply(tx, mirror.GetContact, `{"id":"c"}`)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := <-cleared
	for range 3 {
		if got.err != nil {
			t.Fatal(got.err)
		}
		if got.done {
			break
		}
		got.done, got.err = w.clearPool(t.Context(), s)
	}
	var left string
	if err := pool.QueryRow(t.Context(), `SELECT coalesce(pool, 'none') FROM contacts WHERE id = 'c'`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if !got.done || left != "none" {
		t.Errorf("ended: %v, with the contact in pool %s", got.done, left)
	}
}
