package writeback_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// rig is a LeadGrid, a database that mirrors its flows, and what writes back.
type rig struct {
	*leadgridtest.Server
	t        *testing.T
	pool     *pgxpool.Pool
	observer *observe.Observer
	api      *leadgridapi.Client
	gate     *access.Gate
	key      func() string // that the worker uses
	flow     string
	stages   []string
}

// newRig makes a LeadGrid with a flow of each type, whose answers may lag 50 ms more than the options say.
func newRig(t *testing.T, options leadgridtest.Options) *rig {
	t.Helper()
	if options.Faults.HangFor == 0 {
		options.Faults.HangFor = time.Second
	}
	w := &rig{Server: leadgridtest.New(options), t: t, pool: pgtest.New(t)}
	t.Cleanup(w.Close)
	w.key = w.Key
	w.gate = access.New(w.pool, 100*time.Millisecond)
	w.ask(30*time.Second, options.Habits.ReplicaLag+50*time.Millisecond)
	w.flow, w.stages = w.CreateFlow("Hiring", "candidate", true,
		leadgridtest.Stage{Name: "Applied"}, leadgridtest.Stage{Name: "Interview"}, leadgridtest.Stage{Name: "Hired"})
	w.CreateFlow("Deals", "sales", true, leadgridtest.Stage{Name: "Lead"}, leadgridtest.Stage{Name: "Won"})
	w.mirrorFlows()
	return w
}

// ask makes the worker that is started next wait so long for an answer, and count on replicas that lag so much. On a slow
// machine even a healthy answer takes a while.
func (w *rig) ask(patience, lag time.Duration) {
	w.t.Helper()
	api, err := leadgridapi.New(w.URL(), "", leadgridapi.WithKeyFunc(w.key), leadgridapi.WithTimeout(patience))
	if err != nil {
		w.t.Fatal(err)
	}
	w.api = api
	w.observer = observe.New(api, mirror.New(w.pool, mirror.Options{Lag: lag}), w.gate).WithPause(20 * time.Millisecond)
}

func (w *rig) mirrorFlows() {
	w.t.Helper()
	listed, err := w.observer.ListFlows(w.t.Context(), leadgridapi.FlowFilter{}, leadgridapi.PageRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.observer.Apply(w.t.Context(), mirror.Read{Observation: listed.At, Kind: "flows", Endpoint: mirror.ListFlows, Objects: listed.Objects, Whole: true}, true)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, id := range w.FlowIDs() {
		if _, err := w.observer.Stages(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
	}
}

func options() writeback.Options {
	options := writeback.Options{Timeout: 30 * time.Second, Late: 500 * time.Millisecond, Poll: 50 * time.Millisecond, Pause: 50 * time.Millisecond}
	if testing.Verbose() {
		options.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return options
}

// start runs a worker until the test ends or stop is called.
func (w *rig) start(o writeback.Options) (stop func()) {
	w.t.Helper()
	o.Key = w.key
	o.SweepContacts = func(ctx context.Context, tx pgx.Tx) error {
		_, err := sweep.Request(ctx, tx, pgtest.Schemas.Queue, sweep.Scheduled, []string{"contacts"}, false)
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	runner := writeback.New(w.pool, w.api, w.observer, w.gate, o)
	ended := make(chan struct{})
	go func() { runner.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	w.t.Cleanup(stop)
	return stop
}

// sweep runs the sweeps that commands have asked for, and says how many.
func (w *rig) sweep() (n int) {
	w.t.Helper()
	sweeps, err := sweep.Latest(w.t.Context(), w.pool, 10)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range slices.Backward(sweeps) {
		if s.Ended() {
			continue
		}
		if s, _, err = sweep.New(w.observer, sweep.Options{}).Run(w.t.Context(), s.ID, time.Minute); err != nil || s.State != sweep.Done {
			w.t.Fatalf("the sweep is %s: %v", s.State, err)
		}
		n++
	}
	return n
}

// write calls a function that writes a command and returns its id.
func (w *rig) write(call string, args ...any) string {
	w.t.Helper()
	var id string
	if err := w.pool.QueryRow(w.t.Context(), `SELECT `+call, args...).Scan(&id); err != nil {
		w.t.Fatalf("%s: %v", call, err)
	}
	return id
}

// row is what a caller sees of a command.
type row struct {
	State      string
	LeadGridID *string
	Result     json.RawMessage
	Error      *string
	Attempts   int
	Waiting    bool // for a person
}

func (w *rig) load(id string) row {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(),
		`SELECT state, leadgrid_id, result, error, attempts, state = 'unknown' AND due_at IS NULL FROM commands WHERE id = $1::uuid`, id)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// settled waits until a command has come to an end, or to a person.
func (w *rig) settled(id string) (r row) {
	w.t.Helper()
	eventually.True(w.t, "the command to be settled", func() bool {
		r = w.load(id)
		return r.State == "done" || r.State == "refused" || r.Waiting
	})
	return r
}

// done waits until a command is done.
func (w *rig) done(id string) row {
	w.t.Helper()
	r := w.settled(id)
	if r.State != "done" {
		w.t.Fatalf("the command is %s: %s", r.State, text(r.Error))
	}
	return r
}

func (w *rig) scan(sql string, into ...any) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), sql).Scan(into...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

func text(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}
