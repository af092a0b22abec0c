package mirror

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Observation is one read's place in the order of all reads.
type Observation struct {
	Number  int64
	BeganAt time.Time // by the database's clock
}

// Begin takes the next observation. Call it before the request is sent.
func (m *Mirror) Begin(ctx context.Context) (Observation, error) {
	select {
	case b := <-m.beginnings.ask(ctx, m.take):
		if b.err == nil && b.digest != m.digest {
			b.err = ErrOtherMapping
		}
		if b.err != nil {
			return Observation{}, fmt.Errorf("begin observation: %w", b.err)
		}
		return b.Observation, nil
	case <-ctx.Done():
		return Observation{}, fmt.Errorf("begin observation: %w", ctx.Err())
	}
}

// mostPatience bounds one round trip for observations, on which everybody waits who asks meanwhile.
const mostPatience = 10 * time.Second

// beginnings takes observations for all who ask at about the same time in one round trip: a sweep that reads lists side by side
// needs one for each of many small requests. Whoever asks while a round trip is under way waits for the next: their number is
// taken after they have asked.
type beginnings struct {
	mu      sync.Mutex
	waiting []chan<- beginning
	taking  bool
}

type beginning struct {
	Observation
	digest string // of the mapping applied last
	err    error
}

func (b *beginnings) ask(ctx context.Context, take func(ctx context.Context, n int) ([]beginning, error)) <-chan beginning {
	mine := make(chan beginning, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, mine)
	if !b.taking {
		b.taking = true
		go b.serve(context.WithoutCancel(ctx), take) // the others need theirs even if this one gives up
	}
	return mine
}

// serve takes observations until nobody waits for one.
func (b *beginnings) serve(ctx context.Context, take func(ctx context.Context, n int) ([]beginning, error)) {
	for {
		runtime.Gosched() // so that those who are about to ask come along
		b.mu.Lock()
		group := b.waiting
		b.waiting, b.taking = nil, len(group) > 0
		b.mu.Unlock()
		if len(group) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, mostPatience)
		taken, err := take(ctx, len(group))
		cancel()
		for i, mine := range group {
			if err != nil {
				mine <- beginning{err: err}
			} else {
				mine <- taken[i]
			}
		}
	}
}

// take takes the next n observations.
func (m *Mirror) take(ctx context.Context, n int) ([]beginning, error) {
	// How many must not be seen by the planner, or it would plan anew each time.
	rows, err := m.pool.Query(ctx,
		`SELECT nextval('observations'), clock_timestamp(), (`+appliedMapping+`) FROM generate_series(1, (SELECT $1::int))`, n)
	if err != nil {
		return nil, err
	}
	taken, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b beginning, err error) {
		return b, row.Scan(&b.Number, &b.BeganAt, &b.digest)
	})
	if err == nil && len(taken) != n {
		err = fmt.Errorf("%d observations instead of %d", len(taken), n)
	}
	return taken, err
}
