package sweep_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// A contact's pool is in other lists than the contact: both must be known when its row is written.
func TestABackfillWritesAContactOnce(t *testing.T) {
	leadgrid := leadgridtest.New(leadgridtest.Options{})
	defer leadgrid.Close()
	leadgrid.Seed(leadgridtest.Size{Contacts: 150})
	pool := pgtest.New(t)
	api, err := leadgridapi.New(leadgrid.URL(), leadgrid.Key())
	if err != nil {
		t.Fatal(err)
	}
	sweeper := sweep.New(observe.New(api, mirror.New(pool, mirror.Options{}), access.New(pool, 0)), sweep.Options{})
	var id int64
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		id, err = sweep.Request(t.Context(), tx, pgtest.Schemas.Queue, sweep.Full, []string{"contacts"}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := sweeper.Run(t.Context(), id, time.Hour)
	if err != nil || s.State != sweep.Done {
		t.Fatalf("the sweep ended as %s: %v", s.State, err)
	}
	var contacts, pooled int64
	if err := pool.QueryRow(t.Context(), `SELECT count(*), count(pool) FROM contacts`).Scan(&contacts, &pooled); err != nil {
		t.Fatal(err)
	}
	const compared = 3 // read by themselves first, without their pool
	if contacts != 150 || pooled < 10 || s.RowsChanged > contacts+compared {
		t.Errorf("%d contacts, %d of them in a pool, took %d writes", contacts, pooled, s.RowsChanged)
	}
	// Another pass over the list of all contacts would take three more.
	if s.Requests > 10 {
		t.Errorf("took %d requests: a list that held still was passed over again", s.Requests)
	}
}
