package events

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

var (
	// ErrBusy says that as many events are waiting to be stored as the intake holds.
	ErrBusy = errors.New("too many events are waiting to be stored")
	// ErrClosed says that the intake takes no more events.
	ErrClosed = errors.New("the intake is closed")
)

// Received is the body of an authentic webhook, exactly as it came.
type Received struct {
	Body []byte
	At   time.Time
}

// Stored says what an event was kept as.
type Stored struct {
	ID        string // LeadGrid's, or sha256:… of the body where it has none that can be used
	Type      string // empty where it has none
	Odd       string // why it was not understood, empty when it was
	Duplicate bool   // the same bytes had been stored before
}

// Options are the limits of an Intake. The zero value of each means the default.
type Options struct {
	MaxEvents int           // events in one transaction; 512
	MaxBytes  int           // bytes of bodies in one transaction, exceeded by at most one body; 8 MiB
	Waiting   int           // events that may wait for their transaction; 4096
	Flushers  int           // transactions under way at once; 2
	Patience  time.Duration // how long a database in trouble is tried again before events are refused; 3 s

	// Flushed, if not nil, is told of every transaction that ended, from several goroutines.
	Flushed func(Flush)
}

// Flush is how a transaction went.
type Flush struct {
	Events   int           // in it, those repeated included
	Duration time.Duration // all attempts together
	Err      error         // why it was given up
}

// Intake stores webhook events by group commit: whatever has gathered while the last transaction was under way goes into
// the next one, so that nobody waits for a timer and a busy receiver commits once for hundreds of events.
type Intake struct {
	pool    *pgxpool.Pool
	jobs    *river.Client[pgx.Tx]
	options Options

	closing sync.RWMutex // held to close waiting, shared to send on it
	closed  bool
	waiting chan *arrival
	flusher sync.WaitGroup
}

// arrival is one call of Add on its way through a flush.
type arrival struct {
	row
	settled chan settlement // holds one, so that a caller who has left blocks nobody
}

// settlement is how a flush ended for one arrival.
type settlement struct {
	duplicate bool
	odd       string // set when the database, not the parser, found the event odd
	err       error
}

// NewIntake starts an Intake. The jobs client only inserts; its FetchCooldown also limits how often a worker is woken, so
// keep it low. Close ends what NewIntake starts.
func NewIntake(pool *pgxpool.Pool, jobs *river.Client[pgx.Tx], options Options) *Intake {
	options.MaxEvents = cmp.Or(options.MaxEvents, 512)
	options.MaxBytes = cmp.Or(options.MaxBytes, 8<<20)
	options.Waiting = cmp.Or(options.Waiting, 4096)
	options.Flushers = cmp.Or(options.Flushers, 2)
	options.Patience = cmp.Or(options.Patience, 3*time.Second)
	in := &Intake{pool: pool, jobs: jobs, options: options, waiting: make(chan *arrival, options.Waiting)}
	for range options.Flushers {
		in.flusher.Go(in.run)
	}
	return in
}

// Add returns once the event is committed. After an error, also that of ctx, it may or may not have been: the sender's
// next attempt is then a duplicate, which costs nothing.
func (in *Intake) Add(ctx context.Context, received Received) (Stored, error) {
	a := &arrival{row: newRow(received), settled: make(chan settlement, 1)}
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
	in.closing.RLock()
	defer in.closing.RUnlock()
	if in.closed {
		return ErrClosed
	}
	select {
	case in.waiting <- a:
		return nil
	default:
		return ErrBusy
	}
}

// Waiting is how many events wait for their transaction to begin.
func (in *Intake) Waiting() int { return len(in.waiting) }

// Close refuses new events and returns once those already taken are stored or refused.
func (in *Intake) Close() {
	in.closing.Lock()
	if !in.closed {
		in.closed = true
		close(in.waiting)
	}
	in.closing.Unlock()
	in.flusher.Wait()
}

func (in *Intake) run() {
	var trouble time.Time // since when every transaction has failed; zero when the last one did not
	for first := range in.waiting {
		batch := in.gather(first)
		if trouble.IsZero() {
			trouble = time.Now() // of this flush, should it fail
		}
		if in.flush(batch, trouble.Add(in.options.Patience)) == nil {
			trouble = time.Time{}
		}
	}
}

// gather takes what waits, without waiting for more.
func (in *Intake) gather(first *arrival) []*arrival {
	batch := append(make([]*arrival, 0, len(in.waiting)+1), first)
	for size := len(first.raw); len(batch) < in.options.MaxEvents && size < in.options.MaxBytes; {
		select {
		case next, open := <-in.waiting:
			if !open {
				return batch
			}
			batch = append(batch, next)
			size += len(next.raw)
		default:
			return batch
		}
	}
	return batch
}

// flush stores a batch and tells everybody in it how that went.
func (in *Intake) flush(batch []*arrival, deadline time.Time) error {
	first := make(map[digest]*arrival, len(batch))
	rows := make([]row, 0, len(batch))
	for _, a := range batch {
		if _, repeated := first[a.digest]; !repeated {
			first[a.digest] = a
			rows = append(rows, a.row)
		}
	}
	started := time.Now()
	result, err := in.storePatiently(rows, deadline)
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

// newRow makes of a body what will be stored of it.
func newRow(received Received) row {
	r := row{raw: received.Body, digest: sha256.Sum256(received.Body), receivedAt: received.At}
	event, err := leadgridapi.ParseEvent(received.Body)
	r.id, r.eventType = event.ID, event.Type
	if err != nil {
		r.odd = strings.TrimPrefix(err.Error(), leadgridapi.ErrOddEvent.Error()+": ")
	} else {
		r.createdAt, r.dossierID, r.stageID = event.CreatedAt, event.DossierID, event.StageID
	}
	if r.id == "" {
		r.id = bodyID(r.digest)
	}
	return r
}
