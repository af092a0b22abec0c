package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// sweepQueue is the queue of sweeps, of which each worker runs one at a time.
const sweepQueue = "sweeps"

// patience is how long a sweep's job works before it makes room and comes back: a deployment or a crash loses no more.
const patience = 20 * time.Second

// eventsWorker processes the events of one flush.
type eventsWorker struct {
	river.WorkerDefaults[events.FlushArgs]
	processor *events.Processor
	lag       time.Duration
	log       *slog.Logger
	metrics   *metrics
}

func (w *eventsWorker) Work(ctx context.Context, job *river.Job[events.FlushArgs]) error {
	var waited time.Duration
	report, err := w.processor.Process(ctx, job.Args, func(tx pgx.Tx, report events.Report) error {
		waited = time.Since(report.ReceivedAt)
		again := river.InsertOpts{ScheduledAt: report.ReceivedAt.Add(w.lag + time.Second), Metadata: tracing.Metadata(ctx)}
		later := []river.InsertManyParams{{Args: events.RecheckArgs{Flush: report.Flush}, InsertOpts: &again}}
		once := again
		once.UniqueOpts = river.UniqueOpts{ByArgs: true, ByState: activeStates}
		for _, unread := range report.Unread {
			later = append(later, river.InsertManyParams{Args: unread, InsertOpts: &once})
		}
		_, err := river.ClientFromContext[pgx.Tx](ctx).InsertManyTx(ctx, tx, later)
		return err
	})
	if err == nil && waited > 0 {
		w.metrics.mirrored(ctx, waited)
	}
	w.log.LogAttrs(ctx, level(err), "events processed", slog.Int64("flush", report.Flush), slog.Int("dossiers", report.Dossiers),
		slog.Int("read", report.Read), slog.Int("changed", report.Changed), reason(err))
	return forRiver(err)
}

// recheckWorker reads again what a flush's events pointed to.
type recheckWorker struct {
	river.WorkerDefaults[events.RecheckArgs]
	processor *events.Processor
	log       *slog.Logger
}

func (w *recheckWorker) Work(ctx context.Context, job *river.Job[events.RecheckArgs]) error {
	report, err := w.processor.Recheck(ctx, job.Args.Flush)
	w.log.LogAttrs(ctx, level(err), "events rechecked", slog.Int64("flush", job.Args.Flush), slog.Int("read", report.Read),
		slog.Int("changed", report.Changed), reason(err))
	return forRiver(err)
}

// listWorker reads a list that the key was not allowed to read, once it is.
type listWorker struct {
	river.WorkerDefaults[events.ListArgs]
	processor *events.Processor
	log       *slog.Logger
}

func (w *listWorker) Work(ctx context.Context, job *river.Job[events.ListArgs]) error {
	report, err := w.processor.ReadList(ctx, job.Args)
	w.log.LogAttrs(ctx, level(err), "list read", slog.String("list", string(job.Args.List)), slog.String("dossier", job.Args.Dossier),
		slog.Int("changed", report.Changed), reason(err))
	return forRiver(err)
}

// sweepWorker works on a sweep for a while and comes back until it has ended.
type sweepWorker struct {
	river.WorkerDefaults[sweep.Args]
	sweeper  *sweep.Sweeper
	stopping <-chan struct{}
	log      *slog.Logger
	metrics  *metrics
}

func (w *sweepWorker) Work(ctx context.Context, job *river.Job[sweep.Args]) error {
	ctx, cancel := w.untilStopping(ctx)
	defer cancel()
	s, more, err := w.sweeper.Run(ctx, job.Args.Sweep, patience)
	if errors.Is(context.Cause(ctx), errStopping) {
		more, err = true, nil
	}
	if errors.Is(err, sweep.ErrNoSuchSweep) {
		return river.JobCancel(err)
	}
	if s != nil {
		w.metrics.swept(s)
		w.log.LogAttrs(ctx, level(err), "sweep", slog.Int64("sweep", s.ID), slog.String("kind", string(s.Kind)),
			slog.String("state", string(s.State)), slog.String("phase", s.Progress.Phase), slog.Int64("requests", s.Requests),
			slog.Int64("changed", s.RowsChanged), slog.Int64("deleted", s.RowsDeleted), reason(err))
	}
	if err == nil && more {
		return river.JobSnooze(0)
	}
	return forRiver(err)
}

var errStopping = errors.New("the worker stops")

// untilStopping ends the work when the engine begins to stop. A sweep's state is in Postgres and each of its steps may be
// cut off, so that a deployment need not wait for a step that waits for LeadGrid.
func (w *sweepWorker) untilStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-w.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// tickArgs asks whether a scheduled sweep is due.
type tickArgs struct{}

// Kind is stored with every job: it never changes.
func (tickArgs) Kind() string { return "leadgrid_tick" }

// tickJob asks every minute.
func tickJob() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(time.Minute), func() (river.JobArgs, *river.InsertOpts) {
		return tickArgs{}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByPeriod: time.Minute, ByState: activeStates}}
	}, nil)
}

type tickWorker struct {
	river.WorkerDefaults[tickArgs]
	pool     *pgxpool.Pool
	interval time.Duration
	lag      time.Duration
}

// Work asks for a scheduled sweep when the last one ended long enough ago, and for a full one where there never was one.
// Sweeps of some resources only do not count. It asks for all notes when an event told of one without saying of which dossier.
func (w *tickWorker) Work(ctx context.Context, _ *river.Job[tickArgs]) error {
	client := river.ClientFromContext[pgx.Tx](ctx)
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if err := sweep.EndAbandoned(ctx, tx, client.Schema()); err != nil {
			return err
		}
		var open, due, everFull bool
		err := tx.QueryRow(ctx, `
			SELECT coalesce(bool_or(state IN ('queued', 'running')), false),
			       coalesce(max(finished_at), (SELECT min(tstamp) FROM sync_migrations)) < now() - $1::interval,
			       coalesce(bool_or(kind = 'full' AND state = 'done'), false)
			FROM sync_sweeps WHERE resources @> $2`, w.interval, sweep.ResourceNames).Scan(&open, &due, &everFull)
		if err != nil {
			return fmt.Errorf("look whether a sweep is due: %w", err)
		}
		if open {
			return nil
		}
		if !due {
			unplaced, err := w.unplacedNotes(ctx, tx)
			if err == nil && unplaced {
				_, err = RequestSweep(ctx, tx, client, sweep.Full, []string{"notes"}, false)
			}
			return err
		}
		kind := sweep.Scheduled
		if !everFull {
			kind = sweep.Full
		}
		_, err = RequestSweep(ctx, tx, client, kind, nil, false)
		return err
	})
}

// unplacedNotes reports whether an event told of a note of an unknown dossier after all notes were read last: LeadGrid has no GET
// for a note. All notes are read at most once an interval for that.
func (w *tickWorker) unplacedNotes(ctx context.Context, tx pgx.Tx) (unplaced bool, err error) {
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM webhook_events WHERE type = 'note.created' AND dossier_id IS NULL AND received_at + $2::interval <= now()
			AND received_at + $2::interval > (SELECT max(started_at) FROM sync_sweeps WHERE kind = 'full' AND state = 'done' AND 'notes' = ANY (resources))
		) AND NOT EXISTS (
			SELECT FROM sync_sweeps WHERE kind = 'full' AND resources = '{notes}'
			AND (state IN ('queued', 'running') OR requested_at > now() - $1::interval)
		)`, w.interval, w.lag).Scan(&unplaced)
	if err != nil {
		return false, fmt.Errorf("look for notes of unknown dossiers: %w", err)
	}
	return unplaced, nil
}

// RequestSweep asks for a sweep and inserts the job that runs it, in the caller's transaction. If just that has been asked for and
// has not begun, it returns the sweep that waits.
func RequestSweep(
	ctx context.Context, tx pgx.Tx, client *river.Client[pgx.Tx], kind sweep.Kind, resources []string, acceptDeletions bool,
) (id int64, err error) {
	id, found, err := sweep.Waiting(ctx, tx, client.Schema(), kind, resources, acceptDeletions)
	if err != nil || found {
		return id, err
	}
	id, err = sweep.Request(ctx, tx, client.Schema(), kind, resources, acceptDeletions)
	if err != nil {
		return 0, err
	}
	if _, err := client.InsertTx(ctx, tx, sweep.Args{Sweep: id}, &river.InsertOpts{Queue: sweepQueue, MaxAttempts: maxAttempts}); err != nil {
		return 0, fmt.Errorf("insert sweep job: %w", err)
	}
	return id, nil
}

// sweepContacts brings a sweep of contacts forward, unless one is still to begin.
func (e *Engine) sweepContacts(ctx context.Context, tx pgx.Tx) error {
	var queued bool
	err := tx.QueryRow(ctx,
		`SELECT EXISTS (SELECT FROM sync_sweeps WHERE state = 'queued' AND 'contacts' = ANY (resources))`).Scan(&queued)
	if err != nil {
		return fmt.Errorf("look for a sweep that is to begin: %w", err)
	}
	if queued {
		return nil
	}
	_, err = RequestSweep(ctx, tx, e.River, sweep.Scheduled, []string{"contacts"}, false)
	return err
}

func level(err error) slog.Level {
	if err == nil {
		return slog.LevelInfo
	}
	if _, ok := waits(err); ok {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func reason(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.Any("error", err)
}
