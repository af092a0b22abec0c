package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// starving is how long a sweep may wait while nothing at all is asked under a rate limit: thirty windows and more, of each of which a tenth
// is the sweeps', and all of it while nobody else wants any (promise 8).
const starving = time.Minute

var errStarved = errors.New("a sweep got nothing of a rate limit")

func (r *run) request(ctx context.Context, kind sweep.Kind) (int64, error) {
	return r.requestWith(ctx, kind, false)
}

func (r *run) requestWith(ctx context.Context, kind sweep.Kind, accept bool) (id int64, err error) {
	before := r.server.Snapshot()
	switch {
	case r.Habits.ReplicaLag == 0:
	case r.Seed%2 == 0:
		before = nil // a sweep at once, that replicas may show what was before
	default:
		pause(ctx, lag) // what the slowest replica shows is then no older
	}
	held, err := r.holds(ctx)
	if err != nil {
		return 0, err
	}
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		id, err = jobs.RequestSweep(ctx, tx, r.engine.River, kind, nil, accept)
		return err
	})
	r.before[id], r.held[id] = before, held
	return id, err
}

// holds lists the dossiers and contacts that the mirror has.
func (r *run) holds(ctx context.Context) (map[string][]string, error) {
	held := make(map[string][]string)
	for _, kind := range []string{"dossiers", "contacts"} {
		rows, err := r.pool.Query(ctx, `SELECT id FROM `+kind+` WHERE _deleted_at IS NULL`)
		if err != nil {
			return nil, err
		}
		if held[kind], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// tripped looks whether the breaker was right to stop a sweep: more was removed than it lets pass, or all of a kind that the mirror
// held when the sweep was asked for, or holds now.
func (r *run) tripped(ctx context.Context, s *sweep.Sweep) error {
	holds, err := r.holds(ctx)
	if err != nil {
		return err
	}
	truth, removed := r.server.Snapshot(), 0
	for _, held := range []map[string][]string{r.held[s.ID], holds} {
		for kind, ids := range held {
			gone := 0
			for _, id := range ids {
				if _, lives := truth[kind][id]; !lives {
					gone++
				}
			}
			removed = max(removed, gone)
			r.mayTrip = r.mayTrip || len(ids) > 0 && gone == len(ids)
		}
	}
	// While people edit, a few rows can be gone before a sweep has seen those that took their place; and what it stopped at stays held.
	r.mayTrip = r.mayTrip || removed > 50 || r.meddling.Load()
	return nil
}

// ended waits until a sweep has ended.
func (r *run) ended(ctx context.Context, id int64) (*sweep.Sweep, error) {
	deadline := time.Now().Add(patience)
	moved, last := time.Now(), -1
	for {
		s, err := sweep.Load(ctx, r.pool, id)
		if err != nil {
			return s, err
		}
		if s.Ended() && s.Progress.Breaker {
			if err := r.tripped(ctx, s); err != nil {
				return s, err
			}
		}
		if s.Ended() {
			return s, r.checkComplete(ctx, s)
		}
		if sent := r.refusals.count(); sent != last {
			moved, last = time.Now(), sent
		}
		if limits := r.server.Settings().Limits; limits.Window > 0 && time.Since(moved) > starving {
			r.Trace = r.lastError(ctx)
			r.failf("promise 8: nothing was asked for a sweep for %v under a limit of %d in %v", starving, limits.Requests, limits.Window)
			return s, errStarved
		}
		if time.Now().After(deadline) {
			return s, fmt.Errorf("sweep %d is stuck in phase %q after %d requests: %s", id, s.Progress.Phase, s.Requests, r.lastError(ctx))
		}
		pause(ctx, glance)
	}
}

func (r *run) lastError(ctx context.Context) (text string) {
	rows, err := r.pool.Query(ctx, `SELECT kind || ' ' || state || ' ' || coalesce(errors[array_upper(errors, 1)]->>'error', '')
		FROM leadgrid_queue.river_job WHERE state NOT IN ('completed')`)
	if err != nil {
		return err.Error()
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	ledger := r.server.Ledger()
	for _, request := range ledger[max(0, len(ledger)-100):] {
		all = append(all, fmt.Sprintf("\n%s %d %s %s", request.Time.Format("05.000"), request.Status, request.Fault, request.Path))
	}
	var budget string
	budgetErr := r.pool.QueryRow(ctx, `SELECT state FROM sync_budget`).Scan(&budget)
	return fmt.Sprint(all, err, "\nbudget: ", budget, budgetErr, fmt.Sprintf("\nlimits: %+v", r.server.Settings().Limits))
}
