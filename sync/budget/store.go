package budget

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// channel is where a block is announced; the payload is the schema, since channels belong to the whole database.
	channel = "leadgrid_budget"
	// keepEvery is how often the state is kept over a crash of the server.
	keepEvery = time.Minute
	// exchangeTimeout bounds one round of reading and writing the row.
	exchangeTimeout = 2 * time.Second
)

// querier is a pool or a connection.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// snapshot is the row as it was at some moment after began.
type snapshot struct {
	state   state
	version int64
	began   time.Time
	now     time.Time     // by the database's clock
	ahead   time.Duration // that clock minus ours, at least: the database looked at it before its answer came
}

func readState(ctx context.Context, db querier) (snapshot, error) {
	r := snapshot{began: time.Now()}
	var stored []byte
	query := func() error {
		return db.QueryRow(ctx, `SELECT state, version, clock_timestamp() FROM sync_budget`).Scan(&stored, &r.version, &r.now)
	}
	err := query()
	if errors.Is(err, pgx.ErrNoRows) {
		if err = restoreState(ctx, db); err == nil {
			err = query()
		}
	}
	if err != nil {
		return r, fmt.Errorf("read the API budget: %w", err)
	}
	r.ahead = time.Until(r.now)
	if err := json.Unmarshal(stored, &r.state); err != nil {
		return r, fmt.Errorf("read the API budget: %w", err)
	}
	return r, nil
}

// restoreState makes the row anew after a crash of the server, or the first time. Its versions go on above all earlier ones.
func restoreState(ctx context.Context, db querier) error {
	var restored int
	return db.QueryRow(ctx, `
		WITH restored AS (
			INSERT INTO sync_budget (state, version)
			SELECT state, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint FROM sync_budget_kept
			ON CONFLICT DO NOTHING
			RETURNING 1)
		SELECT count(*) FROM restored`).Scan(&restored)
}

// writeState stores state unless another version was stored since r was read. With announce the others are told, and what is
// kept is on disk before it returns; all else may be lost with a crash of the server, and so need not wait for its disk.
func writeState(ctx context.Context, db querier, r *snapshot, keep, announce bool) (bool, error) {
	stored, err := json.Marshal(&r.state)
	if err != nil {
		return false, fmt.Errorf("store the API budget: %w", err)
	}
	var saved int
	err = db.QueryRow(ctx, `
		WITH saved AS (UPDATE sync_budget SET state = $1, version = version + 1 WHERE version = $2 RETURNING state),
		     kept AS (UPDATE sync_budget_kept SET state = saved.state FROM saved WHERE $3)
		SELECT count(CASE WHEN $4 THEN pg_notify($5, current_schema())::text
		             ELSE set_config('synchronous_commit', 'off', true) END)
		FROM saved`, stored, r.version, keep, announce, channel).Scan(&saved)
	if err != nil {
		return false, fmt.Errorf("store the API budget: %w", err)
	}
	r.version++
	return saved == 1, nil
}

// updateState reads the state, changes it with change and stores it. If another replica was quicker, it does so again: nobody
// ever holds a lock across a round trip, and a replica that freezes cannot stop the others. change may be called several times,
// each time on a newer state, and returns false if nothing is to be stored.
func updateState(ctx context.Context, db querier, change func(s *state, now time.Time, ahead time.Duration) bool) (snapshot, error) {
	for {
		r, err := readState(ctx, db)
		if err != nil {
			return r, err
		}
		before := r.state.BlockedUntil
		// Its clock is ahead of ours by that much at most, as it was read after it was asked. With less, a refusal would end too
		// early for the others.
		if !change(&r.state, r.now, r.now.Sub(r.began)) {
			return r, nil
		}
		announce := !r.state.BlockedUntil.Equal(before)
		keep := announce || r.now.Sub(r.state.Kept) >= keepEvery
		if keep {
			r.state.Kept = r.now
		}
		saved, err := writeState(ctx, db, &r, keep, announce)
		if err != nil || saved {
			return r, err
		}
		select {
		case <-time.After(rand.N(3 * time.Millisecond)):
		case <-ctx.Done():
			return r, fmt.Errorf("store the API budget: %w", ctx.Err())
		}
	}
}
