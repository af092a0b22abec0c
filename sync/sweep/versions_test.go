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

// A worker of another version left a sweep in a phase that this one does not know: where it stood in the list of that phase says
// nothing about the first list of this one.
func TestPromise6_APhaseOfAnotherVersionIsBegunAnew(t *testing.T) {
	leadgrid := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{MetaTotal: "none"}}})
	defer leadgrid.Close()
	leadgrid.Seed(leadgridtest.Size{})
	pool := pgtest.New(t)
	api, err := leadgridapi.New(leadgrid.URL(), leadgrid.Key())
	if err != nil {
		t.Fatal(err)
	}
	sweeper := sweep.New(observe.New(api, mirror.New(pool, mirror.Options{}), access.New(pool, 0)), sweep.Options{})
	var id int64
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		if id, err = sweep.Request(t.Context(), tx, pgtest.Schemas.Queue, sweep.Full, []string{"flows"}, false); err != nil {
			return err
		}
		_, err = tx.Exec(t.Context(), `UPDATE sync_sweeps SET state = 'running', started_at = now(), progress =
			'{"phase": "contacts of another version", "walk": {"pass": 1, "next": 75, "fixed": 25}, "after": "zzz", "done": 75}'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := sweeper.Run(t.Context(), id, time.Hour)
	if err != nil || s.State != sweep.Done {
		t.Fatalf("the sweep ended as %s: %v", s.State, err)
	}
	var flows, stages int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM flows), (SELECT count(*) FROM stages)`).Scan(&flows, &stages); err != nil {
		t.Fatal(err)
	}
	if want := len(leadgrid.Snapshot()["flows"]); flows != want || stages != len(leadgrid.Snapshot()["stages"]) {
		t.Errorf("%d flows with %d stages are mirrored, LeadGrid has %d with %d", flows, stages, want, len(leadgrid.Snapshot()["stages"]))
	}
}
