package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// state is what the database knows about the work of all replicas. The metrics of scope shared and the status page show it.
// Reading it is cheap, however large the mirror is.
type state struct {
	At       time.Time             // by the database's clock
	Complete map[string]*time.Time // by table: as of when it is complete, nil if it never was
	Waiting  int64                 // events stored but not processed
	Oldest   *time.Time            // when the oldest of them was stored
	Jobs     []jobCount
	Sweeps   []*sweep.Sweep // those under way, then the last that ended
	Pauses   []access.PausedError
	Budget   budget.Status
	Commands []commandCount
}

// jobCount counts the jobs of a kind that are in a state.
type jobCount struct {
	Queue, Kind, State string
	N                  int64
	Since              *time.Time // when the first of them could run
}

// commandCount counts the unfinished commands of an operation that are in a state.
type commandCount struct {
	Operation, State string
	N                int64
	Left             int64      // of which so many wait for a person
	Since            *time.Time // when the first of them was written
}

// stateReader reads the state.
type stateReader struct {
	pool   *pgxpool.Pool
	budget *budget.Budget
	jobs   string // River's table
}

func newStateReader(pool *pgxpool.Pool, shared *budget.Budget, queueSchema string) *stateReader {
	return &stateReader{pool: pool, budget: shared, jobs: pgx.Identifier{queueSchema, "river_job"}.Sanitize()}
}

func (r *stateReader) read(ctx context.Context) (*state, error) {
	s := &state{Complete: map[string]*time.Time{}}
	batch := &pgx.Batch{}
	batch.Queue(`SELECT now(), coalesce(sum(events), 0), min(received_at) FROM sync_flushes WHERE done_at IS NULL`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&s.At, &s.Waiting, &s.Oldest) })
	batch.Queue(`SELECT table_name, complete_as_of FROM sync_freshness`).Query(func(rows pgx.Rows) error {
		var table string
		var at *time.Time
		_, err := pgx.ForEachRow(rows, []any{&table, &at}, func() error { s.Complete[table] = at; return nil })
		return err
	})
	// Restricted to unfinished states, so that River's fetch index answers this, however many jobs have completed.
	batch.Queue(`
		SELECT queue, kind, state::text, count(*), min(scheduled_at) FROM `+r.jobs+`
		WHERE state IN ('available', 'pending', 'running', 'retryable', 'scheduled') AND kind = ANY ($1)
		GROUP BY queue, kind, state ORDER BY queue, kind, state`, slices.Collect(maps.Keys(jobs.Kinds))).
		Query(func(rows pgx.Rows) (err error) {
			s.Jobs, err = pgx.CollectRows(rows, pgx.RowToStructByPos[jobCount])
			return err
		})
	batch.Queue(`
		SELECT operation, state, count(*), count(*) FILTER (WHERE state = 'unknown' AND due_at IS NULL), min(created_at)
		FROM commands WHERE state IN ('pending', 'sending', 'unknown')
		GROUP BY operation, state ORDER BY operation, state`).
		Query(func(rows pgx.Rows) (err error) {
			s.Commands, err = pgx.CollectRows(rows, pgx.RowToStructByPos[commandCount])
			return err
		})
	if err := r.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("read how things stand: %w", err)
	}
	sweeps, err := sweep.Latest(ctx, r.pool, 20)
	if err != nil {
		return nil, err
	}
	for _, one := range sweeps {
		if one.State == sweep.Superseded {
			continue // it settled nothing: the result of the one before it still stands
		}
		s.Sweeps = append(s.Sweeps, one)
		if one.Ended() {
			break
		}
	}
	if s.Pauses, err = access.Pauses(ctx, r.pool); err != nil {
		return nil, err
	}
	s.Budget, err = r.budget.Status(ctx)
	return s, err
}

// breakerOpen reports whether the last sweep to end was stopped because it would have marked too many rows as deleted.
func (s *state) breakerOpen() bool {
	for _, one := range s.Sweeps {
		if one.Ended() {
			return one.State == sweep.Stopped && one.Progress.Breaker
		}
	}
	return false
}

// promises returns, by table, how old its complete_as_of may become; 0 promises nothing.
func promises(config settings.Sweep) map[string]time.Duration {
	promised := make(map[string]time.Duration)
	for _, kind := range mappings.Kinds {
		switch {
		case config.Interval.Off():
			promised[string(kind)] = 0
		case kind == mappings.Links || kind == mappings.Notes:
			promised[string(kind)] = config.Rotation + 3*config.Interval.Duration()
		default:
			promised[string(kind)] = 3 * config.Interval.Duration()
		}
	}
	return promised
}
