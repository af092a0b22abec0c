package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/sync/retention"
)

// retentionArgs asks for what has been kept long enough to be forgotten.
type retentionArgs struct{}

// Kind is stored with every job: it never changes.
func (retentionArgs) Kind() string { return "leadgrid_retention" }

// retentionJob asks every hour, and once at the start.
func retentionJob() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(time.Hour), func() (river.JobArgs, *river.InsertOpts) {
		return retentionArgs{}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByPeriod: time.Hour, ByState: activeStates}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

type retentionWorker struct {
	river.WorkerDefaults[retentionArgs]
	pool   *pgxpool.Pool
	limits retention.Limits
	log    *slog.Logger
}

func (w *retentionWorker) Work(ctx context.Context, _ *river.Job[retentionArgs]) error {
	report, err := retention.Apply(ctx, w.pool, w.limits)
	w.log.LogAttrs(ctx, level(err), "retention", slog.Int64("events", report.Events), slog.Int64("commands", report.Commands),
		slog.Int64("history", report.History), slog.Int64("sweeps", report.Sweeps), slog.Int64("reads", report.Reads), reason(err))
	return forRiver(err)
}
