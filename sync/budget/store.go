package budget

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// channel is where a block is announced; the payload is the schema, since channels belong to the whole database.
	channel = "leadgrid_budget"
	// exchangeTimeout bounds one round of reading and writing the row.
	exchangeTimeout = 2 * time.Second
)

// store keeps the State in its row. Nobody ever holds a lock across a round trip: a replica that freezes cannot stop the
// others, and one that writes over a state it has not read tries again.
type store struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// querier is a pool or a connection.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// reading is the row as it was at some moment after began.
type reading struct {
	state   State
	version int64
	began   time.Time
	now     time.Time     // by the database's clock
	ahead   time.Duration // that clock minus ours, at most
}

func (s store) read(ctx context.Context, db querier) (reading, error) {
	r := reading{began: s.local()}
	var state []byte
	err := db.QueryRow(ctx, `SELECT state, version, clock_timestamp() FROM sync_budget`).Scan(&state, &r.version, &r.now)
	if err != nil {
		return r, fmt.Errorf("read the API budget: %w", err)
	}
	if s.now != nil {
		r.now = s.now()
	}
	r.ahead = r.now.Sub(s.local())
	if err := json.Unmarshal(state, &r.state); err != nil {
		return r, fmt.Errorf("read the API budget: %w", err)
	}
	return r, nil
}

// write stores state unless another version was stored since r was read. A new block is announced and durable; all else
// may be lost with a crash of the server, and so need not wait for its disk.
func (s store) write(ctx context.Context, db querier, r *reading, announce bool) (bool, error) {
	state, err := json.Marshal(&r.state)
	if err != nil {
		return false, fmt.Errorf("store the API budget: %w", err)
	}
	var saved int
	err = db.QueryRow(ctx, `
		WITH saved AS (UPDATE sync_budget SET state = $1, version = version + 1 WHERE version = $2 RETURNING 1)
		SELECT count(CASE WHEN $3 THEN pg_notify($4, current_schema())::text
		             ELSE set_config('synchronous_commit', 'off', true) END)
		FROM saved`, state, r.version, announce, channel).Scan(&saved)
	if err != nil {
		return false, fmt.Errorf("store the API budget: %w", err)
	}
	r.version++
	return saved == 1, nil
}

// update changes the state with change, which may be called several times, each time on a newer state, and returns false
// if nothing is to be stored.
func (s store) update(ctx context.Context, db querier, change func(state *State, now time.Time, ahead time.Duration) bool) (reading, error) {
	for {
		r, err := s.read(ctx, db)
		if err != nil {
			return r, err
		}
		before := r.state.BlockedUntil
		if !change(&r.state, r.now, r.ahead) {
			return r, nil
		}
		saved, err := s.write(ctx, db, &r, !r.state.BlockedUntil.Equal(before))
		if err != nil || saved {
			return r, err
		}
		select {
		case <-time.After(mathrand.N(3 * time.Millisecond)):
		case <-ctx.Done():
			return r, fmt.Errorf("store the API budget: %w", ctx.Err())
		}
	}
}

func (s store) local() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}

func randomName() string { return rand.Text()[:10] }
