// Package budget shares one API rate limit among all replicas that use the same key.
//
// LeadGrid publishes no numbers, so the budget learns them: from X-RateLimit-Limit and -Remaining, from when the
// remaining jumps back, and from refusals (429) and their Retry-After. What one replica learns it puts into a row of
// Postgres (table sync_budget) for all. From the same row each replica leases tokens, just enough for a fraction of a
// second: so a request costs no round trip, and what a replica that dies had leased is next to nothing.
//
// [Limiter] is what an API client asks. Behind it, [Budget] spends the tokens that this replica has leased (purse.go) and
// exchanges what it saw for more (exchange.go, store.go). What is stored is a pure state machine, driven by explicit times
// on the database's clock: state.go grants tokens, learn.go learns the limit from answers, pace.go says how fast to go.
package budget

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// Share names who asks for a request: each has a guaranteed part of the budget.
type Share int

// The shares. What one leaves unused is lent to whoever asks.
const (
	Events Share = iota
	WriteBack
	Sweeps
	shares
)

// String returns the share's name as metrics and errors show it.
func (s Share) String() string {
	return [...]string{"events", "write_back", "sweeps"}[s]
}

// guaranteed is each share's part while every share has work.
var guaranteed = [shares]float64{Events: 0.60, WriteBack: 0.30, Sweeps: 0.10}

// Options are the settings of a Budget; the zero value is usable.
type Options struct {
	// Patience is how long Acquire waits for a token before it gives a *NoTokenError; zero means 2 s, negative not at all.
	Patience time.Duration
	// SweepShare, when given, says which part of the budget sweeps should be guaranteed now (0.10 is usual): more when
	// they are overdue. It must be quick and safe for concurrent use.
	SweepShare func() float64
	// Registerer receives the metrics, when given.
	Registerer prometheus.Registerer
	// Logger hears of refusals and of lost connections, when given.
	Logger *slog.Logger
}

const (
	// fresh is how old a replica's knowledge may be when it sends a request. Together with the time that publishing
	// takes it keeps a request from being sent 250 ms after another replica met a refusal, even when no
	// notification comes through.
	fresh = 120 * time.Millisecond
	// justRead is for how long what was read may be used however long the reading took.
	justRead = 20 * time.Millisecond
)

// Budget is one replica's access to the shared budget.
type Budget struct {
	pool    *pgxpool.Pool
	options Options
	name    string // of this replica among all that share the budget
	metrics *metrics
	urgent  chan struct{} // a refusal waits to be published

	mu      sync.Mutex
	purse   purse
	state   state // as last read
	version int64
	asOf    time.Time // when reading state began; zero before the first time
	readAt  time.Time // when it was read
	blocked time.Time // until when nothing may be sent, as far as this replica knows, by its own clock
	why     string
	again   [shares]time.Time // a share's want was not met: when to ask again
	short   string            // and why
	waiting [shares]int
	asking  bool
	changed chan struct{} // closed and replaced when any of these changed
}

// New returns the budget kept in the database behind pool, whose search_path must lead to the sync_budget table. Run
// should run for as long as requests are made.
func New(pool *pgxpool.Pool, options Options) *Budget {
	options.Patience = cmp.Or(options.Patience, 2*time.Second)
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Budget{
		pool:    pool,
		options: options,
		name:    rand.Text()[:10],
		metrics: newMetrics(options.Registerer),
		urgent:  make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
}

// NoTokenError says that no request may be sent before Until. Whoever meets it should come back then; it is no failure.
type NoTokenError struct {
	Until time.Time
	Why   string
	// Err is what kept the budget from being asked, if that was the reason.
	Err error
}

func (e *NoTokenError) Error() string {
	return fmt.Sprintf("no API request before %s: %s", e.Until.UTC().Format(time.RFC3339Nano), e.Why)
}

func (e *NoTokenError) Unwrap() error { return e.Err }

var _ leadgridapi.Limiter = Limiter{}

// Limiter lets requests of one share pass; it is leadgridapi's Limiter.
type Limiter struct {
	budget *Budget
	share  Share
}

// Share returns the limiter for requests of one share.
func (b *Budget) Share(share Share) Limiter { return Limiter{budget: b, share: share} }

// Acquire returns nil when one request may be sent now. It waits for a token as long as the patience allows; otherwise
// it returns a *NoTokenError, or the context's error.
func (l Limiter) Acquire(ctx context.Context) error { return l.budget.acquire(ctx, l.share) }

// Observe learns from one answer, and stops all replicas if it is a refusal. It never waits.
func (l Limiter) Observe(o leadgridapi.Observation) { l.budget.observe(o) }

func (b *Budget) acquire(ctx context.Context, c Share) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting[c]++
	defer func() { b.waiting[c]-- }()
	began := time.Now()
	deadline := began.Add(max(b.options.Patience, 0))
	for asked, waited := false, false; ; {
		now := time.Now()
		ok, next, why := b.try(now, c)
		switch {
		case ok:
			b.metrics.waited(c, waited, now.Sub(began))
			return nil
		case next.After(deadline):
			return b.noToken(c, next, why, nil)
		case !next.IsZero():
		case asked && now.After(deadline):
			return b.noToken(c, now.Add(exchangeTimeout/2), "the shared budget does not answer in time", nil)
		case !b.asking:
			asked = true
			if err := b.lease(ctx); err != nil {
				return b.noToken(c, time.Now().Add(exchangeTimeout/2), "the shared budget cannot be asked", err)
			}
			continue
		default: // another request asks for all who wait
			asked, next = true, later(deadline, now.Add(exchangeTimeout))
		}
		waited = true
		if err := b.wait(ctx, next.Sub(now)); err != nil {
			return err
		}
	}
}

func (b *Budget) noToken(c Share, until time.Time, why string, err error) error {
	b.metrics.refused(c)
	return &NoTokenError{Until: until, Why: why, Err: err}
}

// try takes a token if one may be used at this moment; otherwise next says when to try again, zero after an exchange.
func (b *Budget) try(now time.Time, c Share) (ok bool, next time.Time, why string) {
	if now.Before(b.blocked) {
		return false, b.blocked, b.why
	}
	if now.Sub(b.asOf) > fresh && now.Sub(b.readAt) > justRead {
		return false, time.Time{}, ""
	}
	ok, due := b.purse.take(now, c)
	if ok || !due.IsZero() {
		return ok, due, b.short
	}
	if now.Before(b.again[c]) {
		return false, b.again[c], b.short
	}
	return false, time.Time{}, ""
}

// wait gives the lock up until something changed, d has passed or the context ended.
func (b *Budget) wait(ctx context.Context, d time.Duration) error {
	changed := b.changed
	b.mu.Unlock()
	defer b.mu.Lock()
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// notify wakes all who wait.
func (b *Budget) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// observe takes in what the client saw. It never blocks on the database.
func (b *Budget) observe(o leadgridapi.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.purse.observe(o)
	if o.Remaining != nil && b.state.risen(*o.Remaining) {
		b.askAgain()
	}
	if o.Status != 429 {
		return
	}
	if until := o.Answered.Add(o.RetryAfter); until.After(b.blocked) {
		b.blocked, b.why = until, refusalWhy(o.RetryAfter)
		b.options.Logger.Warn("LeadGrid refused a request for its rate limit", "retry_after", o.RetryAfter)
	}
	b.purse.drop()
	b.notify()
	b.publish()
}

// askAgain lets those who wait ask for tokens again: there may be more than when they were told to wait.
func (b *Budget) askAgain() {
	b.again = [shares]time.Time{}
	b.notify()
}
