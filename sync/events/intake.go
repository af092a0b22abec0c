package events

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

var (
	// ErrBusy means that the intake already holds as many waiting events as it can.
	ErrBusy = errors.New("too many events are waiting to be stored")
	// ErrClosed means that the intake takes no more events.
	ErrClosed = errors.New("the intake is closed")
)

// Received is the body of an authentic webhook, exactly as it came.
type Received struct {
	Body []byte
	At   time.Time
}

// Stored says how an event was stored.
type Stored struct {
	ID        string // LeadGrid's, or sha256:… of the body if that has no usable id
	Type      string // empty if it has none
	Odd       string // why it was not understood, empty if it was
	Duplicate bool   // the same bytes were already stored
}

// Options are the limits of an Intake. The zero value of each means the default.
type Options struct {
	MaxEvents int           // events in one transaction; 512
	MaxBytes  int           // bytes of bodies in one transaction, exceeded by at most one body; 8 MiB
	Waiting   int           // events that may wait for their transaction; 4096
	Flushers  int           // transactions under way at once; 2
	Beside    int           // how many waiting events make a transaction begin while another is under way; 32
	Patience  time.Duration // how long a failing database is tried again before events are refused; 3 s

	// Mapping says what may be kept of a payload; nil keeps all of it.
	Mapping *mappings.Mapping

	// Flushed, if not nil, is called after every transaction, from several goroutines.
	Flushed func(Flush)
}

// Flush describes a transaction that has ended.
type Flush struct {
	Events   int           // how many it held, duplicates included
	Duration time.Duration // of all attempts together
	Err      error         // why it was given up, nil if it was not
}

// Intake stores webhook events by group commit: all events that arrive during one transaction go into the next. So nobody
// waits for a timer, and a busy receiver commits once for hundreds of events.
type Intake struct {
	pool     *pgxpool.Pool
	jobs     *river.Client[pgx.Tx]
	options  Options
	mapping  string // its digest
	flushers sync.WaitGroup

	repeating atomic.Bool // whether the last transaction met events that were stored already

	mu       sync.Mutex
	arrived  *sync.Cond // signalled when due may have become true
	waiting  []*arrival
	underWay int // number of transactions
	closed   bool
}

// arrival is one call of Add on its way through a flush.
type arrival struct {
	row
	span    trace.SpanContext
	settled chan settlement // buffers one, so that a caller who has left blocks nobody
}

// settlement is how a flush ended for one arrival.
type settlement struct {
	duplicate bool
	odd       string // set when the database, not the parser, found the event odd
	err       error
}

// NewIntake starts an Intake, which Close ends. The jobs client only inserts; keep its FetchCooldown low, as that also limits how
// often a worker is woken.
func NewIntake(pool *pgxpool.Pool, jobs *river.Client[pgx.Tx], options Options) *Intake {
	options.MaxEvents = cmp.Or(options.MaxEvents, 512)
	options.MaxBytes = cmp.Or(options.MaxBytes, 8<<20)
	options.Waiting = cmp.Or(options.Waiting, 4096)
	options.Flushers = cmp.Or(options.Flushers, 2)
	options.Patience = cmp.Or(options.Patience, 3*time.Second)
	options.Beside = cmp.Or(options.Beside, 32)
	in := &Intake{pool: pool, jobs: jobs, options: options}
	if options.Mapping != nil {
		in.mapping = options.Mapping.Digest()
	}
	in.arrived = sync.NewCond(&in.mu)
	for range options.Flushers {
		in.flushers.Go(in.run)
	}
	return in
}

// Add returns once the event is committed. After an error, including ctx's, it may be committed or not: if so, the sender's
// next attempt is a harmless duplicate.
func (in *Intake) Add(ctx context.Context, received Received) (Stored, error) {
	a := &arrival{row: newRow(received, in.options.Mapping), span: tracing.Of(ctx), settled: make(chan settlement, 1)}
	if err := in.enqueue(a); err != nil {
		return Stored{}, err
	}
	select {
	case s := <-a.settled:
		if s.err != nil {
			return Stored{}, s.err
		}
		return Stored{ID: a.id, Type: a.eventType, Odd: cmp.Or(a.odd, s.odd), Duplicate: s.duplicate}, nil
	case <-ctx.Done():
		return Stored{}, fmt.Errorf("wait for the event's transaction: %w", context.Cause(ctx))
	}
}

func (in *Intake) enqueue(a *arrival) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closed:
		return ErrClosed
	case len(in.waiting) >= in.options.Waiting:
		return ErrBusy
	}
	in.waiting = append(in.waiting, a)
	if in.due() {
		in.arrived.Signal()
	}
	return nil
}

// due reports whether a transaction should begin now. While another is under way that only pays for many events: a few are
// better off in the next transaction than in a commit of their own, which would take processor time from all.
func (in *Intake) due() bool {
	return len(in.waiting) > 0 && (in.underWay == 0 || in.closed) || len(in.waiting) >= in.options.Beside
}

// Waiting returns how many events wait for their transaction to begin.
func (in *Intake) Waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.waiting)
}

// Close refuses new events and returns once those already taken are stored or refused.
func (in *Intake) Close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.arrived.Broadcast()
	in.flushers.Wait()
}

func (in *Intake) run() {
	var trouble time.Time // since when every transaction has failed; zero if the last one succeeded
	for {
		batch := in.gather()
		if batch == nil {
			return
		}
		if trouble.IsZero() {
			trouble = time.Now() // in case this flush fails
		}
		if in.flush(batch, trouble.Add(in.options.Patience)) == nil {
			trouble = time.Time{}
		}
		in.mu.Lock()
		in.underWay--
		in.mu.Unlock()
	}
}

// gather waits until a transaction is due and takes the waiting events for it. It returns nil once the intake is closed and empty.
func (in *Intake) gather() []*arrival {
	in.mu.Lock()
	defer in.mu.Unlock()
	for !in.due() {
		if in.closed {
			return nil
		}
		in.arrived.Wait()
	}
	n := 0
	for size := 0; n < min(len(in.waiting), in.options.MaxEvents) && size < in.options.MaxBytes; n++ {
		size += len(in.waiting[n].raw)
	}
	batch := in.waiting[:n:n]
	in.waiting = append(make([]*arrival, 0, n), in.waiting[n:]...)
	in.underWay++
	if in.due() {
		in.arrived.Signal()
	}
	return batch
}

// flush stores a batch and reports the result to each event's caller.
func (in *Intake) flush(batch []*arrival, deadline time.Time) error {
	first := make(map[digest]*arrival, len(batch))
	rows := make([]row, 0, len(batch))
	var webhooks []trace.SpanContext
	for _, a := range batch {
		if a.span.IsValid() {
			webhooks = append(webhooks, a.span)
		}
		if _, repeated := first[a.digest]; !repeated {
			first[a.digest] = a
			rows = append(rows, a.row)
		}
	}
	started := time.Now()
	ctx, span := tracing.Flush(context.Background(), webhooks)
	result, err := in.storePatiently(ctx, rows, deadline)
	span.SetAttributes(attribute.Int("leadgrid.events", len(batch)))
	if err != nil {
		tracing.Failed(span)
	}
	span.End()
	if in.options.Flushed != nil {
		in.options.Flushed(Flush{Events: len(batch), Duration: time.Since(started), Err: err})
	}
	for _, a := range batch {
		fresh, found := result[a.digest]
		switch {
		case found:
			a.settled <- settlement{duplicate: !fresh.stored || first[a.digest] != a, odd: fresh.odd}
		default:
			a.settled <- settlement{err: err}
		}
	}
	return err
}

// newRow turns a body into the row to store. If the mapping leaves anything out, only the hash is kept of an odd body.
func newRow(received Received, mapping *mappings.Mapping) row {
	r := row{raw: received.Body, digest: sha256.Sum256(received.Body), receivedAt: received.At}
	event, err := leadgridapi.ParseEvent(received.Body)
	if err != nil { // what the event names is followed all the same
		r.odd = strings.TrimPrefix(err.Error(), leadgridapi.ErrOddEvent.Error()+": ")
		if fits, same := mappings.Storable(received.Body); !same {
			event, _ = leadgridapi.ParseEvent(fits)
			event.ID = ""
		}
	}
	r.id = event.ID
	r.eventType, r.createdAt, r.dossierID, r.stageID = event.Type, event.CreatedAt, event.DossierID, event.StageID
	if r.id == "" {
		r.id = bodyID(r.digest)
	}
	if mapping != nil && mapping.Strict() {
		payload, ok := mapping.Payload(r.raw)
		if r.raw = payload; !ok || r.odd != "" {
			r.raw = nil
			r.odd = cmp.Or(r.odd, "the mapping cannot be applied to it")
		}
	}
	return r
}
