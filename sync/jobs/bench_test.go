package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
)

// BenchmarkEvent measures, at 20 events a second on a durable Postgres, how long after an event's commit its job asks
// LeadGrid for the dossier, against how long a job takes to start with River's defaults; and how long until the row has
// changed for readers, the stand-in's answer (which comes at once) included. A round is a hundred of each.
func BenchmarkEvent(b *testing.B) {
	const each = 100
	bench := newEventBench(b)
	var started, defaults, visible []time.Duration
	var ratios, halves []float64
	for b.Loop() {
		s, v := bench.mirrored(b, each)
		d := bench.byDefault(b, each)
		started, visible, defaults = append(started, s...), append(visible, v...), append(defaults, d...)
		ratios = append(ratios, float64(at(.99, s))/float64(at(.99, d)))
		halves = append(halves, at(.50, v).Seconds()*1000)
	}
	b.Logf("commit to request      p50 %v  p99 %v", at(.50, started), at(.99, started))
	b.Logf("River's defaults       p50 %v  p99 %v", at(.50, defaults), at(.99, defaults))
	b.Logf("commit to row visible  p50 %v  p99 %v", at(.50, visible), at(.99, visible))
	ratio.Report(b, "×default-p99", ratios)
	ratio.Report(b, "visible-p50-ms", halves)
	b.ReportMetric(0, "ns/op")
}

// at is the value below which a share q of all lies.
func at(q float64, all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[int(q*float64(len(all)-1))].Round(10 * time.Microsecond)
}

// eventBench is a mirror that is at work, and beside it a River client with nothing set.
type eventBench struct {
	*leadgridtest.Server
	pool     *pgxpool.Pool
	intake   *events.Intake
	defaults *river.Client[pgx.Tx]
	dossiers []string
	turn     int

	mu      sync.Mutex
	awaited map[string]chan time.Time // by what the request or job is about
}

func newEventBench(b *testing.B) *eventBench {
	e := &eventBench{awaited: map[string]chan time.Time{}, pool: pgtest.Own(b, postgres.Options{Durable: true})}
	e.Server = leadgridtest.New(leadgridtest.Options{OnRequest: func(request leadgridtest.Request) (none leadgridtest.Fault) {
		if request.Operation == "dossiers.get" {
			e.heard(request.IDs[0])
		}
		return none
	}})
	b.Cleanup(e.Close)
	e.Seed(leadgridtest.Size{Dossiers: 100, Contacts: 50, Links: 50, Notes: 100})
	for id := range e.Snapshot()["dossiers"] {
		e.dossiers = append(e.dossiers, id)
	}
	api, err := leadgridapi.New(e.URL(), e.Key())
	if err != nil {
		b.Fatal(err)
	}
	engine, err := jobs.New(jobs.Config{Pool: e.pool, QueueSchema: pgtest.Schemas.Queue, API: api, NoSchedule: true, Lag: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	if err := engine.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	inserter, err := river.NewClient(riverpgxv5.New(e.pool), &river.Config{
		Schema: pgtest.Schemas.Queue, FetchCooldown: river.FetchCooldownMin, // as the receiver's
	})
	if err != nil {
		b.Fatal(err)
	}
	e.intake = events.NewIntake(e.pool, inserter, events.Options{})
	workers := river.NewWorkers()
	river.AddWorker(workers, &emptyWorker{heard: e.heard})
	if e.defaults, err = river.NewClient(riverpgxv5.New(e.pool), &river.Config{
		Schema: pgtest.Schemas.Queue, Workers: workers, Queues: map[string]river.QueueConfig{"empty": {MaxWorkers: 8}},
	}); err != nil {
		b.Fatal(err)
	}
	if err := e.defaults.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx := context.WithoutCancel(b.Context())
		e.intake.Close()
		_ = e.defaults.Stop(ctx)
		_ = engine.Stop(ctx)
	})
	return e
}

type emptyArgs struct {
	Number string `json:"number"`
}

func (emptyArgs) Kind() string { return "empty" }

type emptyWorker struct {
	river.WorkerDefaults[emptyArgs]
	heard func(string)
}

func (w *emptyWorker) Work(_ context.Context, job *river.Job[emptyArgs]) error {
	w.heard(job.Args.Number)
	return nil
}

// await gives the channel on which the moment comes when something is first heard of.
func (e *eventBench) await(what string) chan time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.awaited[what] = make(chan time.Time, 1)
	return e.awaited[what]
}

func (e *eventBench) heard(what string) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if waiting, ok := e.awaited[what]; ok {
		waiting <- now
		delete(e.awaited, what)
	}
}

const betweenEvents = 50 * time.Millisecond

// mirrored changes dossiers, one after the other, and hands their events to the intake.
func (e *eventBench) mirrored(b *testing.B, n int) (started, visible []time.Duration) {
	tick := time.NewTicker(betweenEvents)
	defer tick.Stop()
	for range n {
		e.turn++
		id, phone := e.dossiers[e.turn%len(e.dossiers)], fmt.Sprint("turn ", e.turn)
		if err := e.UpdateDossier(id, leadgridtest.Fields{"phone": phone}); err != nil {
			b.Fatal(err)
		}
		asked := e.await(id)
		body := fmt.Appendf(nil, `{"id":"evt_%d","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":%q}}`, e.turn, id)
		if _, err := e.intake.Add(b.Context(), events.Received{Body: body, At: time.Now()}); err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		for seen := ""; seen != phone; {
			if err := e.pool.QueryRow(b.Context(), `SELECT coalesce(max(phone), '') FROM dossiers WHERE id = $1`, id).Scan(&seen); err != nil {
				b.Fatal(err)
			}
		}
		visible = append(visible, time.Since(committed))
		started = append(started, (<-asked).Sub(committed))
		<-tick.C
	}
	return started, visible
}

// byDefault inserts jobs that do nothing through a client as River makes it.
func (e *eventBench) byDefault(b *testing.B, n int) (started []time.Duration) {
	tick := time.NewTicker(betweenEvents)
	defer tick.Stop()
	for range n {
		e.turn++
		number := fmt.Sprint("job ", e.turn)
		began := e.await(number)
		if _, err := e.defaults.Insert(b.Context(), emptyArgs{Number: number}, &river.InsertOpts{Queue: "empty"}); err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		started = append(started, (<-began).Sub(committed))
		<-tick.C
	}
	return started
}
