package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

const (
	// stateKept is how long a state is cached, however many scrape.
	stateKept = 15 * time.Second
	// stateTimeout bounds reading it; it is shorter than Prometheus waits for a scrape.
	stateTimeout = 5 * time.Second
)

// stateMetrics exports the state to Prometheus. Every replica exports the same values: aggregate with max. While the database
// cannot be read it keeps exporting what it read last, and ages keep growing.
type stateMetrics struct {
	read     func(context.Context) (*state, error)
	promised map[string]time.Duration
	log      *slog.Logger

	mu    sync.Mutex
	state *state    // nil before the first time
	asOf  time.Time // by our clock: when state was read
	tried time.Time
}

func newStateMetrics(reader *stateReader, promised map[string]time.Duration, log *slog.Logger) *stateMetrics {
	return &stateMetrics{read: reader.read, promised: promised, log: log}
}

// current returns the state, read anew if it is due, the time now by the database's clock, and when the state was read by ours.
func (m *stateMetrics) current() (s *state, now, asOf time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tried.IsZero() || time.Since(m.tried) >= stateKept-time.Second { // so that scraping every 15 s always reads anew
		m.tried = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
		defer cancel()
		got, err := m.read(ctx)
		if err != nil {
			m.log.Warn("cannot read the state for metrics", slog.Any("error", err))
		} else {
			m.state, m.asOf = got, time.Now()
		}
	}
	if m.state == nil {
		return nil, time.Time{}, time.Time{}
	}
	return m.state, m.state.At.Add(time.Since(m.asOf)), m.asOf
}

func stateDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The metrics of scope shared (see docs/metrics.md), and when they were read.
var (
	descRead = stateDesc("leadgrid_state_read_timestamp_seconds",
		"When this replica last read, whole, what the metrics shared by all replicas show; 0 until it has.")
	descQueueJobs = stateDesc("leadgrid_queue_jobs", "Jobs that have not ended.", "queue", "kind", "state")
	descQueueAge  = stateDesc("leadgrid_queue_oldest_available_age_seconds",
		"How long the oldest job that could run has been waiting; 0 if none waits.", "queue")
	descEvents    = stateDesc("leadgrid_events_waiting", "Events stored but not yet processed.")
	descEventsAge = stateDesc("leadgrid_events_oldest_waiting_age_seconds",
		"Since when the oldest event that is not yet processed has been waiting; 0 if none does.")
	descComplete = stateDesc("leadgrid_mirror_complete_timestamp_seconds",
		"Every change that LeadGrid made before this moment is in the table; 0 until the backfill has read it.", "table")
	descPromise = stateDesc("leadgrid_mirror_promise_seconds",
		"How far the moment as of which a table is complete may lie back; 0 promises nothing.", "table")
	descSweepsOpen = stateDesc("leadgrid_sweeps_open", "Sweeps asked for or running.", "kind")
	descProgress   = stateDesc("leadgrid_sweep_phase_progress_ratio",
		"Share of its phase that the running sweep has done.", "kind", "phase")
	descBreaker = stateDesc("leadgrid_sweep_breaker_open",
		"1 if the last sweep that ended was stopped because too much would have been marked as deleted.")
	descPaused = stateDesc("leadgrid_api_paused", "1 while LeadGrid is not asked because it refuses the key.", "scope", "reason")
	descLimit  = stateDesc("leadgrid_api_budget_limit",
		"LeadGrid's announced rate limit in requests per window; 0 if none was announced.")
	descRemaining = stateDesc("leadgrid_api_budget_remaining", "Requests left in the window, as LeadGrid last announced.")
	descPace      = stateDesc("leadgrid_api_budget_pace", "Requests per second that all replicas together may send.")
	descBlocked   = stateDesc("leadgrid_api_budget_blocked_until_seconds",
		"Unix time until which LeadGrid asked to send nothing; in the past, or 0, when it does not.")
	descUsed     = stateDesc("leadgrid_api_budget_requests_total", "Requests that the budget ever allowed, all replicas together.", "share")
	descRefusals = stateDesc("leadgrid_api_budget_refusals_total", "Refusals (429) ever met, all replicas together.")
	descCommands = stateDesc("leadgrid_commands_open", "Write-back commands that have not come to an end.", "operation", "state")
	descUnknown  = stateDesc("leadgrid_commands_unknown",
		"Write-back commands whose outcome is unknown and which wait for a person.")
	descCommandAge = stateDesc("leadgrid_commands_oldest_pending_seconds",
		"Age of the oldest write-back command that is to be sent; 0 if none is.")
)

var stateDescs = []*prometheus.Desc{
	descRead, descQueueJobs, descQueueAge, descEvents, descEventsAge, descComplete, descPromise, descSweepsOpen, descProgress,
	descBreaker, descPaused, descLimit, descRemaining, descPace, descBlocked, descUsed, descRefusals, descCommands, descUnknown,
	descCommandAge,
}

// Describe implements [prometheus.Collector].
func (m *stateMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range stateDescs {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector].
func (m *stateMetrics) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	s, now, asOf := m.current()
	gauge(descRead, unixSeconds(&asOf))
	for table, promise := range m.promised {
		gauge(descPromise, promise.Seconds(), table)
	}
	if s == nil {
		return
	}
	age := func(since *time.Time) float64 {
		if since == nil {
			return 0
		}
		return max(0, now.Sub(*since).Seconds())
	}

	gauge(descEvents, float64(s.Waiting))
	gauge(descEventsAge, age(s.Oldest))
	for _, table := range mappings.Kinds {
		gauge(descComplete, unixSeconds(s.Complete[string(table)]), string(table))
	}
	s.collectJobs(gauge, age)
	s.collectSweeps(gauge)
	s.collectPauses(gauge)

	gauge(descLimit, float64(s.Budget.Limit))
	gauge(descRemaining, float64(s.Budget.Remaining))
	gauge(descPace, s.Budget.Pace)
	gauge(descBlocked, unixSeconds(&s.Budget.BlockedUntil))
	counter(descRefusals, s.Budget.Refusals)
	for _, share := range []budget.Share{budget.Events, budget.WriteBack, budget.Sweeps} {
		counter(descUsed, s.Budget.Used[share], share.String())
	}

	s.collectCommands(gauge, age)
}

type gaugeFunc func(desc *prometheus.Desc, value float64, labels ...string)

func (s *state) collectJobs(gauge gaugeFunc, age func(*time.Time) float64) {
	const available = "available"
	waiting := make(map[string]bool) // kinds with a job that could run
	oldest := make(map[string]*time.Time)
	for _, count := range s.Jobs {
		gauge(descQueueJobs, float64(count.N), count.Queue, count.Kind, count.State)
		if count.State != available {
			continue
		}
		waiting[count.Queue+"/"+count.Kind] = true
		if first := oldest[count.Queue]; first == nil || count.Since.Before(*first) {
			oldest[count.Queue] = count.Since
		}
	}
	shown := make(map[string]bool)
	for kind, queue := range jobs.Kinds {
		if !waiting[queue+"/"+kind] {
			gauge(descQueueJobs, 0, queue, kind, available)
		}
		if !shown[queue] {
			shown[queue] = true
			gauge(descQueueAge, age(oldest[queue]), queue)
		}
	}
}

func (s *state) collectSweeps(gauge gaugeFunc) {
	open := make(map[sweep.Kind]int)
	running := false
	for _, one := range s.Sweeps {
		if one.Ended() {
			continue
		}
		open[one.Kind]++
		if one.State == sweep.Running && !running { // one runs at a time
			running = true
			gauge(descProgress, share(one.Progress.Done, one.Progress.Total), string(one.Kind), one.Progress.Phase)
		}
	}
	for _, kind := range []sweep.Kind{sweep.Full, sweep.Scheduled} {
		gauge(descSweepsOpen, float64(open[kind]), string(kind))
	}
	gauge(descBreaker, oneIf(s.breakerOpen()))
}

func (s *state) collectPauses(gauge gaugeFunc) {
	paused := make(map[[2]string]bool)
	for _, reason := range []string{access.Unauthorized, access.PlanRequired, access.Forbidden, access.OtherOrganization} {
		paused[[2]string{access.Everything, reason}] = false
	}
	for _, pause := range s.Pauses {
		paused[[2]string{pause.Scope, pause.Reason}] = true
	}
	for labels, is := range paused {
		gauge(descPaused, oneIf(is), labels[0], labels[1])
	}
}

func (s *state) collectCommands(gauge gaugeFunc, age func(*time.Time) float64) {
	counts := make(map[[2]string]int64)
	var unknown int64
	var oldest float64
	for _, count := range s.Commands {
		counts[[2]string{count.Operation, count.State}] = count.N
		unknown += count.Left
		if count.State == string(writeback.Pending) {
			oldest = max(oldest, age(count.Since))
		}
	}
	for _, operation := range writeback.Operations {
		for _, state := range []writeback.State{writeback.Pending, writeback.Sending, writeback.Unknown} {
			n := counts[[2]string{string(operation), string(state)}]
			gauge(descCommands, float64(n), string(operation), string(state))
		}
	}
	gauge(descUnknown, float64(unknown))
	gauge(descCommandAge, oldest)
}

// share returns which part of a total is done, 0 while the total is unknown.
func share(done, total int) float64 {
	if total <= 0 {
		return 0
	}
	return min(1, float64(done)/float64(total))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// unixSeconds is 0 for never.
func unixSeconds(t *time.Time) float64 {
	if t == nil || t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
