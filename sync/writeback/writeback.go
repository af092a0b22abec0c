// Package writeback carries out the commands that customers write into the table commands with the SQL functions of
// migrations/00004_writeback.sql: creates at most once, and all of them in order on each dossier and contact.
//
// The way of a command, which begins at [Runner.Run]:
//
//	pending → sending   its turn has come: that it is being sent is committed before its first byte goes out (store.go)
//	sending → done      LeadGrid's answer, mirrored in the same transaction (attempt.go)
//	sending → refused   LeadGrid did not carry it out, and never will (outcome.go judges errors)
//	sending → pending   LeadGrid did not, but may later; or it does no harm to send it twice
//	sending → unknown   a create that LeadGrid may have carried out
//	unknown → done      LeadGrid shows what it made (look.go, evidence.go)
//	unknown → pending   LeadGrid shows nothing, after so long that nothing can have been made
//
// What stays ambiguous is left unknown, with the evidence, until a person decides (settle.go). What is done is read back, so
// that the mirror has all of it (confirm.go).
package writeback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/leadgrid-sync/leadgrid-sync/internal/dedicated"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// Options configures a Runner. The zero value is right for production.
type Options struct {
	// Paused keeps commands from being sent; unknown ones are still looked into.
	Paused bool
	// Marker, if not empty, is a word that is written with the command's id at the end of a created dossier's intake_notes, so
	// that the dossier can be found with certainty.
	Marker string
	// Parallel is how many commands are carried out at once, 0 for 8.
	Parallel int
	// Timeout bounds one attempt, with the reads that belong to it; 0 is a minute. A command whose worker was killed is taken
	// up again after one and a quarter times that.
	Timeout time.Duration
	// Late is how long a request may still be carried out after its caller gave up; 0 is a minute.
	Late time.Duration
	// Poll is how often to look for commands if no notification comes; 0 is 5 s.
	Poll time.Duration
	// Pause is the first wait between attempts, which doubles; 0 is a second.
	Pause time.Duration
	// SweepContacts asks, in the caller's transaction, for a sweep of contacts, so that a contact deleted by a command is soon
	// marked as deleted; nil leaves that to the next scheduled sweep.
	SweepContacts func(ctx context.Context, tx pgx.Tx) error
	// Key returns the API key in use, which may change at any time; nil if it never does.
	Key func() string
	// Registerer receives the metrics, when given.
	Registerer prometheus.Registerer
	// Log gets one line per step of a command, with ids only; nil for none.
	Log *slog.Logger
}

const (
	channel = "leadgrid_commands"
	// longestWait caps the pauses between attempts and between looks.
	longestWait = 2 * time.Minute
	// mostPerRound is how many commands are looked into, or confirmed, at once.
	mostPerRound = 50
	// longestTrying is how long a command is retried before a person is asked: longer than any outage of LeadGrid.
	longestTrying = 24 * time.Hour
	// drain is how long running commands may take once the runner is to stop.
	drain = 10 * time.Second
	// provenFor is how long a proof lasts that the key belongs to the mirrored organization.
	provenFor = time.Minute
)

// Runner carries out commands. Several may run on one database.
type Runner struct {
	store    *store
	api      *leadgridapi.Client
	observer *observe.Observer
	gate     *access.Gate
	options  Options
	log      *slog.Logger
	metrics  *metrics
	mapping  *mappings.Mapping
	digest   string // the mapping's

	wake    chan struct{}
	running sync.WaitGroup

	sending             atomic.Int32
	looking, confirming atomic.Bool

	mu     sync.Mutex
	proven time.Time // when the key was last proved to belong to the mirrored organization
	key    string    // that key
}

// New returns a Runner. The client's and the observer's limiter should be the budget's write-back share.
func New(pool *pgxpool.Pool, api *leadgridapi.Client, observer *observe.Observer, gate *access.Gate, options Options) *Runner {
	options.Parallel = cmp.Or(options.Parallel, 8)
	options.Timeout = cmp.Or(options.Timeout, time.Minute)
	options.Late = cmp.Or(options.Late, time.Minute)
	options.Poll = cmp.Or(options.Poll, 5*time.Second)
	options.Pause = cmp.Or(options.Pause, time.Second)
	if options.Key == nil {
		options.Key = func() string { return "" }
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	mapping := observer.Mirror().Mapping()
	return &Runner{
		mapping:  mapping,
		digest:   mapping.Digest(),
		store:    &store{pool: pool, lease: options.Timeout + options.Timeout/4, marker: options.Marker},
		api:      api,
		observer: observer,
		gate:     gate,
		options:  options,
		log:      options.Log,
		metrics:  newMetrics(options.Registerer, options.Paused),
		wake:     make(chan struct{}, 1),
	}
}

// Run carries out commands until the context ends, and then waits for those under way.
func (r *Runner) Run(ctx context.Context) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	r.running.Go(func() { r.listen(ctx) })
	for {
		wait, err := r.dispatch(ctx, work)
		if err != nil && ctx.Err() == nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "commands could not be claimed", slog.Any("error", err))
		}
		timer := time.NewTimer(wait)
		select {
		case <-r.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			r.end(stop)
			return
		}
		timer.Stop()
	}
}

// end waits for what is under way.
func (r *Runner) end(stop func()) {
	ended := make(chan struct{})
	go func() { r.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(drain):
		stop() // what is under way becomes unknown, and is looked into
		<-ended
	}
}

// nudge makes the runner look for work now.
func (r *Runner) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// dispatch starts everything that is due and for which there is room, and returns how long to wait before the next time.
func (r *Runner) dispatch(ctx, work context.Context) (time.Duration, error) {
	if err := r.startSends(ctx, work); err != nil { // first, as callers wait for it
		return r.options.Poll, err
	}
	n, err := r.store.reap(ctx, r.certainAfter(perhaps))
	if err != nil {
		return r.options.Poll, err
	}
	if n > 0 {
		r.log.LogAttrs(ctx, slog.LevelWarn, "the worker that was sending commands ended", slog.Int64("commands", n))
	}
	refused, err := r.store.refuseDependents(ctx)
	if err != nil {
		return r.options.Poll, err
	}
	for _, c := range refused {
		r.ended(ctx, c, Refused, nil)
	}
	if n > 0 || len(refused) > 0 {
		r.nudge() // others may go on
	}
	err = errors.Join(r.round(ctx, work, &r.looking, r.store.claimLooks, r.look),
		r.round(ctx, work, &r.confirming, r.store.claimConfirms, r.confirmAll), r.store.holdToMapping(ctx, r.mapping, r.digest))
	if err != nil {
		return r.options.Poll, err
	}
	next, err := r.store.nextDue(ctx)
	if err != nil || next == 0 {
		return r.options.Poll, err
	}
	return min(next, r.options.Poll), nil
}

// startSends claims as many commands as there are free slots, and carries them out concurrently.
func (r *Runner) startSends(ctx, work context.Context) error {
	free := r.options.Parallel - int(r.sending.Load())
	if free <= 0 || r.options.Paused {
		return nil
	}
	commands, err := r.store.claimSends(ctx, free)
	for _, c := range commands {
		r.sending.Add(1)
		r.start(work, func(ctx context.Context) { r.attempt(ctx, c) }, func() { r.sending.Add(-1) })
	}
	return err
}

// round claims due commands and runs a function on them, unless the last round of that kind is still under way.
func (r *Runner) round(
	ctx, work context.Context, busy *atomic.Bool,
	claim func(context.Context, int) ([]*Command, error), run func(context.Context, []*Command),
) error {
	if !busy.CompareAndSwap(false, true) {
		return nil
	}
	commands, err := claim(ctx, mostPerRound)
	if err != nil || len(commands) == 0 {
		busy.Store(false)
		return err
	}
	r.start(work, func(ctx context.Context) { run(ctx, commands) }, func() { busy.Store(false) })
	return nil
}

// start runs f, with the timeout of one attempt, and then ended.
func (r *Runner) start(ctx context.Context, f func(context.Context), ended func()) {
	r.running.Go(func() {
		defer r.nudge()
		defer ended()
		ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
		defer cancel()
		f(ctx)
	})
}

// listen wakes the runner when commands are written. It needs a connection of its own; while that is down, polling must do.
func (r *Runner) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.listenOnce(ctx); ctx.Err() == nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "not told of new commands", slog.Any("error", err))
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

func (r *Runner) listenOnce(ctx context.Context) error {
	conn, err := dedicated.Connect(ctx, r.store.pool)
	if err != nil {
		return fmt.Errorf("connect to listen: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		r.nudge()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
}

// keep stores a step of a command, and retries for long, because what LeadGrid answered is known nowhere else.
func (r *Runner) keep(ctx context.Context, c *Command, s step) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestWait)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := s(ctx)
		if err == nil {
			return
		}
		if errors.Is(err, errSuperseded) {
			r.log.LogAttrs(ctx, slog.LevelWarn, "command decided otherwise", slog.String("command", c.ID))
			return
		}
		r.log.LogAttrs(ctx, slog.LevelWarn, "command not stored", slog.String("command", c.ID), slog.Any("error", err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return // its lease will run out, and it will be looked into
		}
	}
}

// ended counts and logs a command that is finished, or left to a person.
func (r *Runner) ended(ctx context.Context, c *Command, state State, err error) {
	r.metrics.finished.WithLabelValues(string(c.Operation), string(state)).Inc()
	if state == Done {
		r.metrics.seconds.Observe(time.Since(c.CreatedAt).Seconds())
	}
	level := slog.LevelInfo
	if state != Done {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("command", c.ID), slog.String("operation", string(c.Operation)), slog.String("state", string(state)),
		slog.String("dossier", c.dossier()), slog.String("contact", c.contact()), slog.Int("attempts", c.Attempts),
	}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err)) // leadgridapi leaves LeadGrid's words out of it
	}
	r.log.LogAttrs(ctx, level, "command", attrs...)
}
