// Package simulate drives the real jobs, mirror and budget against the stand-in LeadGrid in one process, from one seed:
// what LeadGrid does where the contract is silent, what goes wrong, what people edit meanwhile. Afterwards, once LeadGrid
// is quiet and one sync has run, the mirror must be equal; and at no instant may it have broken a promise.
package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

const (
	// lag is how far the stand-in's replica may be behind, and what the mirror is told to expect.
	lag = 250 * time.Millisecond
	// patience bounds one wait of a simulation; nothing in it should take a tenth of that.
	patience = 2 * time.Minute
	// glance is how long to wait before looking again. Many seeds look at once, and what they look with is what they wait for.
	glance = 60 * time.Millisecond
)

// Report says what one seed did, for people who wonder what was tested.
type Report struct {
	Seed     uint64
	Habits   leadgridtest.Habits
	Faults   leadgridtest.Faults
	Requests int
	Events   int
	Took     time.Duration
	// Played lists what not every seed does.
	Played []string
	// Failures lists every promise that was broken; none is a pass.
	Failures []string
	// Trace is what was under way when the last sync did not come to its end.
	Trace string
}

// run is one simulation under way.
type run struct {
	*Report
	scale   int
	failing sync.Mutex // guards Failures: the receiver fails from many goroutines
	rng     *rand.Rand
	server  *leadgridtest.Server
	pool    *pgxpool.Pool
	config  jobs.Config
	engine  *jobs.Engine
	// refusals watches what is sent while LeadGrid has said to wait.
	refusals *refusals
	// meddling switches on edits between the pages of a list.
	meddling atomic.Bool
	// before holds what LeadGrid held when a sweep was asked for.
	before map[int64]leadgridtest.Snapshot
	// held are the ids of the dossiers and contacts that the mirror had then.
	held map[int64]map[string][]string
	// mayTrip is set once so much was removed that the breaker may have stopped a sweep.
	mayTrip bool
}

func (r *run) failf(format string, args ...any) {
	r.failing.Lock()
	defer r.failing.Unlock()
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// Options says what to simulate.
type Options struct {
	Seed uint64
	// Scale is how much there is of everything: rows and edits. 0 is 1.
	Scale       int
	QueueSchema string
	Log         *slog.Logger
}

// Run simulates one seed on a migrated database, of which nothing is left that another seed put there.
func Run(ctx context.Context, pool *pgxpool.Pool, options Options) (*Report, error) {
	began := time.Now()
	rng := rand.New(rand.NewPCG(options.Seed, drawn))
	r := &run{
		Report: &Report{Seed: options.Seed}, scale: cmp.Or(options.Scale, 1), rng: rng, pool: pool,
		refusals: &refusals{}, before: make(map[int64]leadgridtest.Snapshot), held: make(map[int64]map[string][]string),
	}
	settings := drawSettings(rng)
	r.Habits, r.Faults = settings.Habits, settings.Faults
	r.server = leadgridtest.New(leadgridtest.Options{
		Seed: options.Seed, Settings: settings, OnRequest: r.meddler(rand.New(rand.NewPCG(options.Seed, 1))),
	})
	defer r.server.Close()
	if err := wipe(ctx, pool, options.QueueSchema); err != nil {
		return nil, err
	}
	stop, err := r.start(ctx, options.QueueSchema, options.Log)
	if err != nil {
		return nil, err
	}
	err = r.play(ctx)
	if errors.Is(err, errStarved) {
		err = nil // which is among the failures
	}
	if stopErr := stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return nil, err
	}
	for _, sent := range r.refusals.broken {
		r.failf("promise 8: %s", sent)
	}
	r.Requests, r.Events = len(r.server.Ledger()), len(r.server.Organization.Events())
	r.Took = time.Since(began)
	return r.Report, nil
}

// start boots the engine and a receiver in front of the intake.
func (r *run) start(ctx context.Context, queueSchema string, log *slog.Logger) (stop func() error, err error) {
	api, err := leadgridapi.New(r.server.URL(), r.server.Key(), leadgridapi.WithTimeout(2*time.Second),
		leadgridapi.WithHTTPClient(&http.Client{Transport: r.refusals}))
	if err != nil {
		return nil, err
	}
	r.config = jobs.Config{
		Pool: r.pool, QueueSchema: queueSchema, API: api, Log: log, Lag: lag, Pause: 5 * time.Millisecond,
		ProbeEvery: 20 * time.Millisecond, NoSchedule: true, RetryPause: 20 * time.Millisecond,
	}
	if err := r.startEngine(ctx); err != nil {
		return nil, err
	}
	receiver, err := newReceiver(r.pool, queueSchema, r.checkStored)
	if err != nil {
		return nil, err
	}
	r.server.RegisterWebhook(receiver.URL, Secret)
	return func() error {
		receiver.Close()
		return r.stopEngine(ctx)
	}, nil
}

func (r *run) startEngine(ctx context.Context) (err error) {
	if r.engine, err = jobs.New(r.config); err != nil {
		return err
	}
	return r.engine.Start(ctx)
}

func (r *run) stopEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return r.engine.Stop(ctx)
}

// redeploy stops the worker where it is, and starts another.
func (r *run) redeploy(ctx context.Context) error {
	r.Played = append(r.Played, "redeployed")
	if err := r.stopEngine(ctx); err != nil {
		return fmt.Errorf("stop the worker: %w", err)
	}
	return r.startEngine(ctx)
}

// play is the plot: data, a backfill while people edit, more edits with webhooks lost and late, perhaps another
// organization behind the key for a while, and then quiet and one sync.
func (r *run) play(ctx context.Context) error {
	r.server.Seed(drawSize(r.rng, r.Habits, r.scale))
	r.meddling.Store(true)
	backfill, err := r.request(ctx, sweep.Full)
	if err != nil {
		return err
	}
	if err := r.edit(ctx, r.rng.IntN(12*r.scale), 5*time.Millisecond); err != nil {
		return err
	}
	r.chatter()
	if r.rng.IntN(4) == 0 {
		if err := r.redeploy(ctx); err != nil {
			return err
		}
	}
	if _, err := r.ended(ctx, backfill); err != nil {
		return err
	}
	for range 1 + r.rng.IntN(2) {
		var id int64
		if r.rng.IntN(2) == 0 {
			if id, err = r.request(ctx, sweep.Scheduled); err != nil {
				return err
			}
		}
		if err := r.edit(ctx, r.rng.IntN(12*r.scale), 3*time.Millisecond); err != nil {
			return err
		}
		if r.rng.IntN(4) == 0 {
			if err := r.swapKey(ctx); err != nil {
				return err
			}
		}
		if id != 0 {
			if _, err := r.ended(ctx, id); err != nil {
				return err
			}
		}
	}
	r.meddling.Store(false)
	if r.rng.IntN(2) == 0 {
		if err := r.onlyEvents(ctx); err != nil {
			return err
		}
	}
	return r.quiet(ctx)
}

// quiet ends edits and faults, waits until LeadGrid's replicas have caught up, syncs once and compares.
func (r *run) quiet(ctx context.Context) error {
	r.server.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	if err := r.server.DrainWebhooks(ctx); err != nil {
		return fmt.Errorf("drain webhooks: %w", err)
	}
	pause(ctx, 2*lag)
	if r.rng.IntN(2) == 0 {
		r.server.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{ErrorBefore: 0.02, Truncated: 0.02} })
	}
	id, err := r.request(ctx, sweep.Full)
	if err != nil {
		return err
	}
	s, err := r.ended(ctx, id)
	if err != nil {
		return err
	}
	if s.Progress.Breaker && r.mayTrip {
		// So many were really removed that the breaker had to ask, now or before.
		if id, err = r.requestWith(ctx, sweep.Full, true); err != nil {
			return err
		}
		if s, err = r.ended(ctx, id); err != nil {
			return err
		}
	}
	if s.State != sweep.Done {
		r.failf("the last sync ended as %s: %s", s.State, message(s))
		r.Trace = r.lastError(ctx)
		return nil
	}
	snapshot := r.server.Organization.Snapshot()
	differences, err := oracle.Differences(ctx, r.pool, oracle.Truth(snapshot), oracle.Options{Ignore: r.Habits.Omits})
	if err != nil {
		return err
	}
	for _, difference := range differences {
		r.failf("after quiet and one sync: %s", difference)
	}
	if err := r.checkEvents(ctx); err != nil {
		return err
	}
	if err := r.checkAgain(ctx); err != nil {
		return err
	}
	return r.checkInstants(ctx, snapshot)
}

func message(s *sweep.Sweep) string {
	if s.Message == nil {
		return ""
	}
	return *s.Message
}

// edit makes n edits, a few at a time; now and then several within one timestamp.
func (r *run) edit(ctx context.Context, n int, pauseBetween time.Duration) error {
	for made := 0; made < n; {
		step := 1 + r.rng.IntN(4)
		r.server.Stir(step)
		made += step
		if r.rng.IntN(15) == 0 {
			r.bulk()
		}
		if r.rng.IntN(30) == 0 {
			r.reshapeFlows()
		}
		if !pause(ctx, time.Duration(r.rng.Int64N(int64(pauseBetween)))) {
			return ctx.Err()
		}
	}
	return nil
}

func (r *run) bulk() {
	ids := r.server.DossierIDs()
	if len(ids) == 0 {
		return
	}
	from := r.rng.IntN(len(ids))
	_ = r.server.BulkUpdate(ids[from:min(len(ids), from+2+r.rng.IntN(8))], leadgridtest.Fields{"role": fmt.Sprintf("role %d", r.rng.IntN(1000))})
}

// chatter now and then gives a dossier more notes than fit on a page.
func (r *run) chatter() {
	ids := r.server.DossierIDs()
	if r.rng.IntN(1+pageOf(r.Habits)/12) > 0 || len(ids) == 0 || r.Habits.SubLists == "stuck" {
		return // a list that only ever gives its first page hides the rest from everybody
	}
	id := ids[r.rng.IntN(len(ids))]
	for n := range pageOf(r.Habits) + r.rng.IntN(10) {
		_, _ = r.server.AddNote(id, fmt.Sprintf("note %d", n), n%2 == 0) // somebody may just have removed the dossier
	}
}

func (r *run) reshapeFlows() {
	flows := r.server.FlowIDs()
	flow := flows[r.rng.IntN(len(flows))]
	switch r.rng.IntN(4) {
	case 0:
		r.server.CreateFlow("Extra", "candidate", false, leadgridtest.Stage{Name: "Nieuw"}, leadgridtest.Stage{Name: "Klaar"})
	case 1:
		_, _ = r.server.CreateStage(flow, leadgridtest.Stage{Name: "Tussen"})
	case 2:
		if stages := r.server.StageIDs(flow); len(stages) > 2 {
			_ = r.server.RemoveStage(flow, stages[len(stages)-1])
		}
	case 3:
		_ = r.server.UpdateFlow(flow, leadgridtest.Fields{"name": fmt.Sprintf("Flow %d", r.rng.IntN(100))})
	}
}

// swapKey puts another organization behind the key for a while. Nothing of it may be written.
func (r *run) swapKey(ctx context.Context) error {
	r.Played = append(r.Played, "key swapped")
	other := r.server.NewOrganization()
	other.Seed(leadgridtest.Size{Dossiers: 20, Contacts: 20, Notes: 20})
	r.server.SetKey(r.server.Key(), other)
	id, err := r.request(ctx, sweep.Full)
	if err != nil {
		return err
	}
	pause(ctx, 150*time.Millisecond)
	r.server.SetKey(r.server.Key(), r.server.Organization)
	if err := r.engine.Gate.ProbeNow(ctx); err != nil {
		return err
	}
	if _, err := r.ended(ctx, id); err != nil {
		return err
	}
	foreign := other.Snapshot()
	for _, table := range []string{"flows", "stages", "dossiers", "contacts", "notes"} {
		for key := range foreign[table] {
			var n int
			if err := r.pool.QueryRow(ctx, `SELECT count(*) FROM `+table+` WHERE id = $1`, key).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				r.failf("promise 5: %s %s of another organization was written", table, key)
			}
		}
	}
	return nil
}

// pause waits in real time: what is simulated here (replicas, rate windows, retries) lives in real time too.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
