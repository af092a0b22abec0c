// Package simulate drives the real jobs, mirror and budget against the stand-in LeadGrid in one process, from one seed:
// what LeadGrid does where the contract is silent, what goes wrong, what people edit meanwhile. Afterwards, once LeadGrid
// is quiet and one sync has run, the mirror must be equal; and at no instant may it have broken a promise.
package simulate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

const (
	secret = "simulated-secret"
	// lag is how far the stand-in's replica may be behind, and what the mirror is told to expect.
	lag = 60 * time.Millisecond
	// patience bounds one wait of a simulation; nothing in it should take a tenth of that.
	patience = 2 * time.Minute
)

// Report says what one seed did, for people who wonder what was tested.
type Report struct {
	Seed     uint64
	Habits   leadgridtest.Habits
	Faults   leadgridtest.Faults
	Requests int
	Events   int
	Took     time.Duration
	// Failures lists every promise that was broken; none is a pass.
	Failures []string
}

// run is one simulation under way.
type run struct {
	*Report
	failing sync.Mutex // guards Failures: the receiver fails from many goroutines
	rng     *rand.Rand
	server  *leadgridtest.Server
	pool    *pgxpool.Pool
	engine  *jobs.Engine
	intake  *events.Intake
}

func (r *run) failf(format string, args ...any) {
	r.failing.Lock()
	defer r.failing.Unlock()
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// Run simulates one seed on a migrated, empty database.
func Run(ctx context.Context, pool *pgxpool.Pool, queueSchema string, seed uint64, log *slog.Logger) (*Report, error) {
	began := time.Now()
	rng := rand.New(rand.NewPCG(seed, 0x6c656164))
	r := &run{Report: &Report{Seed: seed}, rng: rng, pool: pool}
	r.Habits, r.Faults = drawHabits(rng), drawFaults(rng)
	r.server = leadgridtest.New(leadgridtest.Options{
		Seed: seed, Settings: leadgridtest.Settings{Habits: r.Habits, Faults: r.Faults, Limits: drawLimits(rng)},
	})
	defer r.server.Close()
	if err := watch(ctx, pool); err != nil {
		return nil, err
	}
	stop, err := r.start(ctx, queueSchema, log)
	if err != nil {
		return nil, err
	}
	err = r.play(ctx)
	if stopErr := stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return nil, err
	}
	r.checkLimits()
	r.Requests, r.Events = len(r.server.Ledger()), len(r.server.Organization.Events())
	r.Took = time.Since(began)
	return r.Report, nil
}

// start boots the engine and a receiver in front of the intake.
func (r *run) start(ctx context.Context, queueSchema string, log *slog.Logger) (stop func() error, err error) {
	api, err := leadgridapi.New(r.server.URL(), r.server.Key(), leadgridapi.WithTimeout(2*time.Second))
	if err != nil {
		return nil, err
	}
	r.engine, err = jobs.New(jobs.Config{
		Pool: r.pool, QueueSchema: queueSchema, API: api, Log: log, Lag: lag, Pause: 5 * time.Millisecond,
		ProbeEvery: 20 * time.Millisecond, NoSchedule: true, RetryPause: 20 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	if err := r.engine.Start(ctx); err != nil {
		return nil, err
	}
	inserter, err := river.NewClient(riverpgxv5.New(r.pool), &river.Config{
		Schema: queueSchema, FetchCooldown: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	r.intake = events.NewIntake(r.pool, inserter, events.Options{})
	verifier, err := leadgridapi.NewVerifier([]string{secret}, leadgridapi.DefaultTolerance)
	if err != nil {
		return nil, err
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || verifier.Verify(req.Header.Values(leadgridapi.SignatureHeader), body, time.Now()) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if _, err := r.intake.Add(req.Context(), events.Received{Body: body, At: time.Now()}); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.checkStored(req.Context(), body)
	}))
	r.server.RegisterWebhook(receiver.URL, secret)
	return func() error {
		receiver.Close()
		r.intake.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return r.engine.Stop(ctx)
	}, nil
}

// play is the plot: data, a backfill while people edit, more edits with webhooks lost and late, perhaps another
// organization behind the key for a while, and then quiet and one sync.
func (r *run) play(ctx context.Context) error {
	// Mostly small, so that many seeds are played; now and then large enough for lists of several full pages.
	size := 30
	if r.rng.IntN(5) == 0 {
		size = 200
	}
	r.server.Seed(leadgridtest.Size{
		Dossiers: 5 + r.rng.IntN(size), Contacts: 5 + r.rng.IntN(size), Links: r.rng.IntN(size), Notes: r.rng.IntN(size),
		Odd: r.rng.Float64() * 0.5,
	})
	backfill, err := r.request(ctx, sweep.Full)
	if err != nil {
		return err
	}
	if err := r.edit(ctx, r.rng.IntN(120), 5*time.Millisecond); err != nil {
		return err
	}
	r.chatter()
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
		if err := r.edit(ctx, r.rng.IntN(80), 3*time.Millisecond); err != nil {
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
	if r.rng.IntN(3) == 0 {
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
	if s.State == sweep.Stopped && s.Message != nil && r.mayTrip() {
		// So many were really removed that the breaker had to ask.
		if id, err = r.requestWith(ctx, sweep.Full, true); err != nil {
			return err
		}
		if s, err = r.ended(ctx, id); err != nil {
			return err
		}
	}
	if s.State != sweep.Done {
		r.failf("the last sync ended as %s: %s", s.State, message(s))
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

func (r *run) mayTrip() bool {
	removed := 0
	for _, request := range r.server.Ledger() {
		if request.Status == http.StatusNotFound {
			removed++
		}
	}
	return removed > 50
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
	_ = r.server.BulkUpdate(ids[from:min(len(ids), from+20)], leadgridtest.Fields{"role": fmt.Sprintf("role %d", r.rng.IntN(1000))})
}

// chatter now and then gives a dossier more notes than fit on a page.
func (r *run) chatter() {
	ids := r.server.DossierIDs()
	if r.rng.IntN(6) > 0 || len(ids) == 0 || r.Habits.SubLists == "stuck" {
		return // a list that only ever gives its first page hides the rest from everybody
	}
	id := ids[r.rng.IntN(len(ids))]
	for n := range r.rng.IntN(130) {
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

func (r *run) request(ctx context.Context, kind sweep.Kind) (int64, error) {
	return r.requestWith(ctx, kind, false)
}

func (r *run) requestWith(ctx context.Context, kind sweep.Kind, accept bool) (id int64, err error) {
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		id, err = jobs.RequestSweep(ctx, tx, r.engine.River, kind, nil, accept)
		return err
	})
	return id, err
}

// ended waits until a sweep has ended.
func (r *run) ended(ctx context.Context, id int64) (*sweep.Sweep, error) {
	deadline := time.Now().Add(patience)
	for {
		s, err := sweep.Load(ctx, r.pool, id)
		if err != nil || s.Ended() {
			return s, err
		}
		if time.Now().After(deadline) {
			return s, fmt.Errorf("sweep %d is stuck in phase %q after %d requests: %s", id, s.Progress.Phase, s.Requests, r.lastError(ctx))
		}
		pause(ctx, 5*time.Millisecond)
	}
}

func (r *run) lastError(ctx context.Context) (text string) {
	rows, err := r.pool.Query(ctx, `SELECT kind || ' ' || state || ' ' || coalesce(errors[array_upper(errors, 1)]->>'error', '')
		FROM leadgrid_queue.river_job WHERE state NOT IN ('completed')`)
	if err != nil {
		return err.Error()
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	ledger := r.server.Ledger()
	for _, request := range ledger[max(0, len(ledger)-20):] {
		all = append(all, fmt.Sprintf("\n%s %d %s", request.Time.Format("05.000"), request.Status, request.Path))
	}
	return fmt.Sprint(all, err)
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
