package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/attribute"

	"github.com/leadgrid-sync/leadgrid-sync/internal/metric"
	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// Kinds are the River kinds that the engine works on, each with its queue.
var Kinds = map[string]string{
	events.FlushArgs{}.Kind():   events.Queue,
	events.RecheckArgs{}.Kind(): events.RecheckQueue,
	events.ListArgs{}.Kind():    events.RecheckQueue,
	sweep.Args{}.Kind():         sweepQueue,
	tickArgs{}.Kind():           river.QueueDefault,
	retentionArgs{}.Kind():      river.QueueDefault,
}

// What becomes of a job when an attempt ends, as metrics call it.
const (
	outcomeCompleted = "completed"
	outcomeSnoozed   = "snoozed"
	outcomeRetried   = "retried"
	outcomeCancelled = "cancelled"
	outcomeDiscarded = "discarded"
)

var outcomes = []string{outcomeCompleted, outcomeSnoozed, outcomeRetried, outcomeCancelled, outcomeDiscarded}

// cause is what made the mirror write a row, as metrics call it.
type cause string

const (
	causeEvent     cause = "event"
	causeRecheck   cause = "recheck"
	causeBackfill  cause = "backfill"
	causeSweep     cause = "sweep"
	causeWriteBack cause = "write_back"
)

var causes = []cause{causeEvent, causeRecheck, causeBackfill, causeSweep, causeWriteBack}

// metrics is what this replica's jobs did. docs/metrics.md says what each means.
type metrics struct {
	jobs        *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	wait        *prometheus.HistogramVec
	eventToRow  prometheus.Observer
	rowsChanged *prometheus.CounterVec
	tombstones  *prometheus.CounterVec
	sweeps      *prometheus.CounterVec
	sweepSteps  *prometheus.CounterVec
}

// newMetrics registers the metrics, all counters at zero, so that an alert sees the first increase too.
func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return factory.NewHistogramVec(metric.Seconds(name, help, prometheus.ExponentialBuckets(0.005, 2.5, 13)), labels) // 5 ms to 5 min
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return factory.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		jobs: counter("leadgrid_jobs_total",
			"Attempts of jobs that ended, by what became of the job.", "queue", "kind", "outcome"),
		duration: histogram("leadgrid_job_duration_seconds", "How long one attempt of a job took.", "kind"),
		wait:     histogram("leadgrid_job_wait_seconds", "From the moment a job could run to its being started.", "kind"),
		eventToRow: histogram("leadgrid_event_to_row_seconds",
			"From a webhook's being stored to everything it pointed to being mirrored.").WithLabelValues(),
		rowsChanged: counter("leadgrid_mirror_rows_changed_total",
			"Rows inserted or updated because LeadGrid's object was not what the mirror held, by what had it read.", "table", "cause"),
		tombstones: counter("leadgrid_mirror_tombstones_total", "Rows marked as deleted.", "table"),
		sweeps:     counter("leadgrid_sweeps_total", "Sweeps that ended.", "kind", "outcome"),
		sweepSteps: counter("leadgrid_sweep_steps_total", "Steps that sweeps committed.", "kind"),
	}
	for kind, queue := range Kinds {
		m.duration.WithLabelValues(kind)
		m.wait.WithLabelValues(kind)
		for _, outcome := range outcomes {
			m.jobs.WithLabelValues(queue, kind, outcome)
		}
	}
	for _, table := range mappings.Kinds {
		m.tombstones.WithLabelValues(string(table))
		for _, cause := range causes {
			m.rowsChanged.WithLabelValues(string(table), string(cause))
		}
	}
	for _, kind := range []sweep.Kind{sweep.Full, sweep.Scheduled} {
		m.sweepSteps.WithLabelValues(string(kind))
		for _, state := range []sweep.State{sweep.Done, sweep.Stopped, sweep.Superseded} {
			m.sweeps.WithLabelValues(string(kind), string(state))
		}
	}
	return m
}

// swept counts what one job did for a sweep.
func (m *metrics) swept(s *sweep.Sweep) {
	m.sweepSteps.WithLabelValues(string(s.Kind)).Add(float64(s.Steps()))
	if s.Ended() {
		m.sweeps.WithLabelValues(string(s.Kind), string(s.State)).Inc()
	}
}

// wrote returns a report that counts rows under a cause.
func (m *metrics) wrote(why cause) observe.Report {
	return func(_ context.Context, table mappings.Kind, changed, deleted int) {
		m.count(table, why, changed, deleted)
	}
}

// sweptRows returns a report for sweeps: what they change is drift, except in a table that was never complete.
func (m *metrics) sweptRows(pool *pgxpool.Pool) observe.Report {
	var complete sync.Map // of tables: once complete, never incomplete again
	return func(ctx context.Context, table mappings.Kind, changed, deleted int) {
		why := causeSweep
		if _, known := complete.Load(table); !known && changed > 0 {
			var once bool
			err := pool.QueryRow(ctx,
				`SELECT complete_as_of IS NOT NULL FROM sync_freshness WHERE table_name = $1`, string(table)).Scan(&once)
			if err == nil && !once {
				why = causeBackfill
			} else if err == nil {
				complete.Store(table, true)
			}
		}
		m.count(table, why, changed, deleted)
	}
}

func (m *metrics) count(table mappings.Kind, why cause, changed, deleted int) {
	m.rowsChanged.WithLabelValues(string(table), string(why)).Add(float64(changed))
	m.tombstones.WithLabelValues(string(table)).Add(float64(deleted))
}

// mirrored counts a flush that is mirrored whole, with its trace as an example where there is one that is kept.
func (m *metrics) mirrored(ctx context.Context, waited time.Duration) {
	histogram, ok := m.eventToRow.(prometheus.ExemplarObserver)
	if span := tracing.Of(ctx); ok && span.IsSampled() {
		histogram.ObserveWithExemplar(waited.Seconds(), prometheus.Labels{"trace_id": span.TraceID().String()})
		return
	}
	m.eventToRow.Observe(waited.Seconds())
}

// watch is the River middleware that counts and times attempts.
func (m *metrics) watch() rivertype.Middleware {
	return river.WorkerMiddlewareFunc(func(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) (err error) {
		if _, known := Kinds[job.Kind]; !known {
			return work(ctx)
		}
		began := time.Now()
		m.wait.WithLabelValues(job.Kind).Observe(max(0, began.Sub(job.ScheduledAt).Seconds()))
		panicked := true
		defer func() {
			m.duration.WithLabelValues(job.Kind).Observe(time.Since(began).Seconds())
			m.jobs.WithLabelValues(job.Queue, job.Kind, outcomeOf(job, err, panicked)).Inc()
		}()
		err = work(ctx)
		panicked = false
		return err
	})
}

// quiet is the River middleware that takes out of errors what they quote: River stores their text with the job.
var quiet = river.WorkerMiddlewareFunc(func(ctx context.Context, _ *rivertype.JobRow, work func(context.Context) error) error {
	return redact.Error(work(ctx))
})

// traced is the River middleware that goes on with the trace of whoever inserted the job.
var traced = river.WorkerMiddlewareFunc(func(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) error {
	ctx, span := tracing.Job(ctx, job.Kind, job.Metadata)
	defer span.End()
	err := work(ctx)
	outcome := outcomeOf(job, err, false)
	span.SetAttributes(attribute.Int64("leadgrid.job.id", job.ID), attribute.Int("leadgrid.job.attempt", job.Attempt),
		attribute.String("leadgrid.job.outcome", outcome))
	if outcome == outcomeRetried || outcome == outcomeDiscarded {
		tracing.Failed(span)
	}
	return err
})

// outcomeOf is what River makes of how an attempt ended.
func outcomeOf(job *rivertype.JobRow, err error, panicked bool) string {
	_, snoozed := errors.AsType[*river.JobSnoozeError](err)
	_, cancelled := errors.AsType[*river.JobCancelError](err)
	switch {
	case snoozed:
		return outcomeSnoozed
	case cancelled:
		return outcomeCancelled
	case err == nil && !panicked:
		return outcomeCompleted
	case job.Attempt >= job.MaxAttempts:
		return outcomeDiscarded
	}
	return outcomeRetried
}
