package simulate_test

import (
	"context"
	"flag"
	"net/http"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
)

var (
	limit  = flag.Int("limit", 0, "the rate limit under which TestPromise8_ASyncUsesTheLimit syncs")
	window = flag.Duration("window", 10*time.Second, "what that limit is per")
)

// TestPromise8_ASyncUsesTheLimit measures how much of an announced limit the whole engine uses: first with a budget that has
// everything to learn, then with one that knows.
func TestPromise8_ASyncUsesTheLimit(t *testing.T) {
	if *limit == 0 {
		t.Skip("it takes minutes; ask for it with -limit 60 -v")
	}
	server := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{
		Limits: leadgridtest.Limits{Requests: *limit, Window: *window},
	}})
	t.Cleanup(server.Close)
	server.Seed(leadgridtest.Size{Dossiers: *costOf, Contacts: *costOf, Links: *costOf, Notes: *costOf})
	pool := pgtest.New(t)
	api, err := leadgridapi.New(server.URL(), server.Key())
	if err != nil {
		t.Fatal(err)
	}
	engine, err := jobs.New(jobs.Config{Pool: pool, QueueSchema: pgtest.Schemas.Queue, API: api, Lag: 100 * time.Millisecond, NoSchedule: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := engine.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, budget := range []string{"new", "learned"} {
		before := len(server.Ledger())
		fullSync(t, pool, engine)
		requests := server.Ledger()[before:]
		took := requests[len(requests)-1].Time.Sub(requests[0].Time)
		refused := 0
		for _, request := range requests {
			if request.Status == http.StatusTooManyRequests {
				refused++
			}
		}
		least := time.Duration(float64(len(requests)) / float64(*limit) * float64(*window))
		t.Logf("budget %s: %d requests at %d per %v in %v, %.3f times the least (%v), %d refused",
			budget, len(requests), *limit, *window, took.Round(time.Second), took.Seconds()/least.Seconds(), least.Round(time.Second), refused)
	}
}
