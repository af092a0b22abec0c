// Package jobs runs the mirror's work as River jobs: the kinds, their workers, and what becomes of a job that failed.
package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/retention"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

const (
	// maxAttempts is River's largest: a job that LeadGrid's trouble keeps from its end is never thrown away.
	maxAttempts = math.MaxInt16
	// jobTimeout bounds one attempt of any job.
	jobTimeout = 45 * time.Second
	// longestRetry caps the pause between attempts, so that a job does not oversleep LeadGrid's recovery.
	longestRetry = 2 * time.Minute
)

// Config is what an Engine needs.
type Config struct {
	Pool        *pgxpool.Pool       // its search_path is the mirror's schema
	QueueSchema string              // where River's tables are
	API         *leadgridapi.Client // without a limiter: the engine gives it one for each share of the budget
	Mapping     *mappings.Mapping   // nil for the default
	Log         *slog.Logger        // nil for none
	Registerer  prometheus.Registerer
	Lag         time.Duration // how far LeadGrid's replicas may be behind, 0 for the default
	Pause       time.Duration // before a failed read is sent again, 0 for the default
	RetryPause  time.Duration // before a failed job is tried again, 0 for a second; doubled with every attempt
	ProbeEvery  time.Duration // between probes of a refused key, 0 for the default
	Sweep       sweep.Options
	NoSchedule  bool // leaves scheduled sweeps out
	SweepsOnly  bool // works on sweeps and nothing else, as `worker sync --wait` does
	EventJobs   int  // how many flushes are processed at once, 0 for 8
	Writeback   writeback.Options
	Retention   retention.Limits // zero keeps everything
}

// Engine is one replica's River client with everything its jobs use.
type Engine struct {
	River  *river.Client[pgx.Tx]
	Budget *budget.Budget
	Gate   *access.Gate
	Mirror *mirror.Mirror

	pool   *pgxpool.Pool
	log    *slog.Logger
	writes *writeback.Runner // nil when there are only sweeps to work on
	cancel context.CancelFunc
	wait   sync.WaitGroup

	urgency  urgency
	stopping chan struct{} // closed when the engine begins to stop
	stop     sync.Once

	stopWrites context.CancelFunc
	writing    sync.WaitGroup
}

// New builds an Engine. It does not touch the database.
func New(config Config) (*Engine, error) {
	config = config.withDefaults()
	e := &Engine{
		Gate:     access.New(config.Pool, config.ProbeEvery),
		Mirror:   mirror.New(config.Pool, mirror.Options{Mapping: config.Mapping, Lag: config.Lag, QueueSchema: config.QueueSchema}),
		pool:     config.Pool,
		log:      config.Log,
		urgency:  urgency{pool: config.Pool, interval: config.Sweep.Interval, log: config.Log},
		stopping: make(chan struct{}),
	}
	e.Budget = budget.New(config.Pool, budget.Options{
		SweepShare: e.urgency.share, Registerer: config.Registerer, Logger: config.Log,
	})
	observer := observe.New(config.API, e.Mirror, e.Gate).WithPause(config.Pause)
	metrics := newMetrics(config.Registerer)
	queues := map[string]river.QueueConfig{
		sweepQueue: {MaxWorkers: 1, FetchCooldown: 5 * time.Millisecond},
	}
	if !config.SweepsOnly {
		queues[events.Queue] = river.QueueConfig{MaxWorkers: config.EventJobs, FetchCooldown: time.Millisecond}
		queues[events.RecheckQueue] = river.QueueConfig{MaxWorkers: 2}
		queues[river.QueueDefault] = river.QueueConfig{MaxWorkers: 2}
		e.writes = e.writeback(config, observer, metrics)
	}
	client, err := river.NewClient(riverpgxv5.New(config.Pool), &river.Config{
		Schema:               config.QueueSchema,
		Queues:               queues,
		Workers:              e.workers(config, observer, metrics),
		PeriodicJobs:         periodicJobs(config),
		JobTimeout:           jobTimeout,
		RescueStuckJobsAfter: jobTimeout + 15*time.Second,
		SoftStopTimeout:      10 * time.Second,
		MaxAttempts:          maxAttempts,
		RetryPolicy:          retryPolicy{config.RetryPause},
		FetchCooldown:        5 * time.Millisecond,
		Middleware:           []rivertype.Middleware{quiet, metrics.watch(), traced},
		Logger:               slog.New(atLeast{slog.LevelWarn, config.Log.Handler()}),
	})
	if err != nil {
		return nil, fmt.Errorf("set up the queue: %w", err)
	}
	e.River = client
	return e, nil
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	c.Pause = cmp.Or(c.Pause, observe.DefaultPause)
	c.RetryPause = cmp.Or(c.RetryPause, time.Second)
	c.Sweep.Interval = cmp.Or(c.Sweep.Interval, time.Hour)
	c.EventJobs = cmp.Or(c.EventJobs, 8)
	return c
}

// workers returns the workers of every kind, even if this engine has not all queues: River's elected leader rescues jobs of all
// kinds.
func (e *Engine) workers(config Config, observer *observe.Observer, metrics *metrics) *river.Workers {
	forEvents := observer.WithLimiter(e.Budget.Share(budget.Events))
	forSweeps := observer.WithLimiter(patient{e.Budget.Share(budget.Sweeps)}).WithReport(metrics.sweptRows(config.Pool))
	workers := river.NewWorkers()
	river.AddWorker(workers, &eventsWorker{
		processor: events.NewProcessor(forEvents.WithReport(metrics.wrote(causeEvent)), fatal),
		lag:       e.Mirror.Lag(), log: config.Log, metrics: metrics,
	})
	rechecks := events.NewProcessor(forEvents.WithReport(metrics.wrote(causeRecheck)), fatal)
	river.AddWorker(workers, &recheckWorker{processor: rechecks, log: config.Log})
	river.AddWorker(workers, &listWorker{processor: rechecks, log: config.Log})
	river.AddWorker(workers, &sweepWorker{
		sweeper: sweep.New(forSweeps, config.Sweep), stopping: e.stopping, log: config.Log, metrics: metrics,
	})
	river.AddWorker(workers, &tickWorker{pool: config.Pool, interval: config.Sweep.Interval, lag: e.Mirror.Lag()})
	river.AddWorker(workers, &retentionWorker{pool: config.Pool, limits: config.Retention, log: config.Log})
	return workers
}

// writeback sets up what carries out commands.
func (e *Engine) writeback(config Config, observer *observe.Observer, metrics *metrics) *writeback.Runner {
	share, options := e.Budget.Share(budget.WriteBack), config.Writeback
	options.Registerer, options.Log, options.SweepContacts = config.Registerer, config.Log, e.sweepContacts
	return writeback.New(config.Pool, config.API.WithLimiter(share),
		observer.WithLimiter(share).WithReport(metrics.wrote(causeWriteBack)), e.Gate, options)
}

// periodicJobs are those that the elected leader inserts.
func periodicJobs(config Config) (periodic []*river.PeriodicJob) {
	if config.SweepsOnly {
		return nil
	}
	if config.Retention != (retention.Limits{}) {
		periodic = append(periodic, retentionJob())
	}
	if !config.NoSchedule {
		periodic = append(periodic, tickJob())
	}
	return periodic
}

// activeStates are the states in which a job still will run or is running. River's default for uniqueness also counts
// completed ones, for a day.
var activeStates = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning,
	rivertype.JobStateScheduled, rivertype.JobStateRetryable,
}

// Start begins to work; a cancelled context drains like Stop.
func (e *Engine) Start(ctx context.Context) error {
	budgetCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	e.wait.Go(func() {
		if err := e.Budget.Run(budgetCtx); err != nil && !errors.Is(err, context.Canceled) {
			e.log.ErrorContext(ctx, "the shared budget stopped", "error", err)
		}
	})
	e.urgency.look(budgetCtx)
	e.wait.Go(func() { e.urgency.run(budgetCtx) })
	context.AfterFunc(ctx, e.beginToStop)
	if err := e.River.Start(ctx); err != nil {
		cancel()
		e.wait.Wait()
		return fmt.Errorf("start working: %w", err)
	}
	ctx, e.stopWrites = context.WithCancel(ctx)
	if e.writes != nil {
		e.writing.Go(func() { e.writes.Run(ctx) })
	}
	return nil
}

// beginToStop tells sweeps, which would go on for long, to make room.
func (e *Engine) beginToStop() { e.stop.Do(func() { close(e.stopping) }) }

// Stop lets running jobs end, for as long as the context allows, and then ends. A sweep makes room at once.
func (e *Engine) Stop(ctx context.Context) error {
	e.beginToStop()
	e.stopWrites()
	err := e.River.Stop(ctx)
	e.writing.Wait()
	e.cancel()
	e.wait.Wait()
	return err
}

// patient is a limiter that waits longer for a token than the budget's own. A sweep has nothing else to do, and to go back to
// the queue for each token would cost more than the token.
type patient struct{ limiter budget.Limiter }

func (p patient) Observe(o leadgridapi.Observation) { p.limiter.Observe(o) }

func (p patient) Acquire(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	for {
		err := p.limiter.Acquire(ctx)
		spent, ok := errors.AsType[*budget.NoTokenError](err)
		if !ok || spent.Until.After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(spent.Until)):
		}
	}
}

// retryPolicy doubles the pause with every attempt, up to longestRetry.
type retryPolicy struct{ first time.Duration }

func (p retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	pause := min(p.first<<min(len(job.Errors), 10), longestRetry)
	return time.Now().Add(pause + rand.N(pause/4))
}

// atLeast is a handler that drops what River logs below a level: our own lines for each job say what matters.
type atLeast struct {
	level slog.Level
	slog.Handler
}

func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level && h.Handler.Enabled(ctx, level)
}

func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.level, h.Handler.WithAttrs(attrs)}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.level, h.Handler.WithGroup(name)}
}
