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
func (m *Mirror) Begin(ctx context.Context) (Observation, error) { return m.begin(ctx, 0) }

// BeginOneOfMany is Begin for one of many requests that follow each other closely. It may give an observation that was taken for
// another of them a moment ago. As it began no later than the request, the read is taken for older than it is, never for newer:
// nothing that may be newer is overwritten, and nothing proves a row gone that would not have otherwise.
func (m *Mirror) BeginOneOfMany(ctx context.Context) (Observation, error) {
	if spare, ok := m.beginnings.takeSpare(time.Now()); ok {
		return spare.Observation, nil
	}
	return m.begin(ctx, mostSpare)
}

func (m *Mirror) begin(ctx context.Context, spare int) (Observation, error) {
	select {
	case b := <-m.beginnings.ask(ctx, spare, m.take):
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

const (
	// mostSpare is how many observations are taken beside one of many, freshness how long they may be used.
	mostSpare = 31
	freshness = 50 * time.Millisecond
)

// mostPatience bounds one round trip for observations, on which everybody waits who asks meanwhile.
const mostPatience = 10 * time.Second

// beginnings takes observations for all who ask at about the same time in one round trip: a sweep that reads lists side by side
// needs one for each of many small requests. Whoever asks while a round trip is under way waits for the next: their number is
// taken after they have asked.
type beginnings struct {
	mu      sync.Mutex
	waiting []chan<- beginning
	taking  bool
	wanted  int // to spare
	spare   []beginning
	spareAt time.Time
}

type beginning struct {
	Observation
	digest string // of the mapping applied last
	err    error
}

func (b *beginnings) ask(ctx context.Context, spare int, take func(ctx context.Context, n int) ([]beginning, error)) <-chan beginning {
	mine := make(chan beginning, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted = max(b.wanted, spare)
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
		group, spare, at := b.waiting, b.wanted, time.Now()
		b.waiting, b.wanted, b.taking = nil, 0, len(group) > 0
		b.mu.Unlock()
		if len(group) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, mostPatience)
		taken, err := take(ctx, len(group)+spare)
		cancel()
		if err == nil && spare > 0 {
			b.mu.Lock()
			b.spare, b.spareAt = taken[len(group):], at
			b.mu.Unlock()
		}
		for i, mine := range group {
			if err != nil {
				mine <- beginning{err: err}
			} else {
				mine <- taken[i]
			}
		}
	}
}

// takeSpare gives an observation that was taken a moment ago, if there is one left.
func (b *beginnings) takeSpare(now time.Time) (spare beginning, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spare) == 0 || now.Sub(b.spareAt) > freshness {
		return spare, false
	}
	spare, b.spare = b.spare[0], b.spare[1:]
	return spare, true
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
