package writeback_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// TestMain lets the test program stand in for a worker that is killed. Tests wait far more than they compute: there may be
// more of them at once than processors.
func TestMain(m *testing.M) {
	if os.Getenv("WRITEBACK_WORKER") != "" {
		if err := work(os.Getenv("WRITEBACK_DATABASE"), os.Getenv("WRITEBACK_LEADGRID"), os.Getenv("WRITEBACK_KEY")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// work is a worker that writes back until it is killed.
func work(database, url, key string) error {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return err
	}
	config.MaxConns = 12
	config.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{pgtest.Schemas.Mirror}.Sanitize()
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return err
	}
	api, err := leadgridapi.New(url, key, leadgridapi.WithTimeout(1500*time.Millisecond))
	if err != nil {
		return err
	}
	gate := access.New(pool, 100*time.Millisecond)
	observer := observe.New(api, mirror.New(pool, mirror.Options{Lag: crashLag}), gate)
	options := writeback.Options{Timeout: 3 * time.Second, Late: 600 * time.Millisecond, Poll: 200 * time.Millisecond, Pause: 100 * time.Millisecond}
	if os.Getenv("WRITEBACK_LOG") != "" {
		options.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	writeback.New(pool, api, observer, gate, options).Run(context.Background())
	return nil
}

const crashLag = 100 * time.Millisecond

// workers are worker processes that are killed now and then, and replaced.
type workers struct {
	t       *testing.T
	env     []string
	running []*exec.Cmd
}

func (w *workers) start() {
	w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), w.env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.running = append(w.running, cmd)
}

// kill kills the one that has run the longest.
func (w *workers) kill() {
	cmd := w.running[0]
	w.running = w.running[1:]
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

// Everything that can go wrong goes wrong while creates are sent: answers lost before and after LeadGrid acted, refusals,
// and workers killed with kill -9. LeadGrid's own ledger must show each command once, or its row must say that a person
// has to look, with what LeadGrid made among the evidence.
//
// WRITEBACK_CREATES says how many creates, by default 100.
func TestPromise10_CreatedOnceOrFlagged(t *testing.T) {
	t.Parallel()
	wanted := 100
	if text := os.Getenv("WRITEBACK_CREATES"); text != "" {
		wanted, _ = strconv.Atoi(text)
	}
	w := newRig(t, leadgridtest.Options{Seed: rand.Uint64(), Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{LeavesFailedCreates: true, CreateMakesContact: true},
		Limits: leadgridtest.Limits{Requests: 400, Window: time.Second},
	}})
	cases := w.writeCases(wanted)
	w.Change(func(s *leadgridtest.Settings) {
		s.Faults = leadgridtest.Faults{
			RateLimited: 0.02, ErrorBefore: 0.04, ErrorAfter: 0.06, BadGateway: 0.02, HangBefore: 0.02, HangAfter: 0.03,
			ResetBefore: 0.03, ResetAfter: 0.05, Truncated: 0.03, UploadFails: 0.1, HangFor: 2 * time.Second,
		}
	})
	fleet := &workers{t: t, env: []string{
		"WRITEBACK_WORKER=1", "WRITEBACK_DATABASE=" + w.pool.Config().ConnString(), "WRITEBACK_LEADGRID=" + w.URL(), "WRITEBACK_KEY=" + w.Key(),
	}}
	began := time.Now()
	fleet.start()
	fleet.start()
	t.Cleanup(func() {
		for len(fleet.running) > 0 {
			fleet.kill()
		}
	})
	kills, step := 0, max(wanted/25, 16)
	eventually.Within(w.t, 20*time.Minute, "the commands to be settled", func() bool {
		var settled int
		w.scan(`SELECT count(*) FROM commands WHERE state IN ('done', 'refused') OR state = 'unknown' AND due_at IS NULL`, &settled)
		if settled >= (kills+1)*step && kills < 20 {
			fleet.kill()
			fleet.start()
			kills++
		}
		return settled == len(cases)
	})
	t.Logf("%d commands settled in %s, with %d workers killed", len(cases), time.Since(began).Round(time.Millisecond), kills)
	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	eventually.True(w.t, "the commands to be confirmed", func() bool {
		var open int
		w.scan(`SELECT count(*) FROM commands WHERE confirms > 0`, &open)
		return open == 0
	})
	w.wantOnce(cases)
	w.wantOrder(cases)
}

// written is a command of which the test knows what it sends.
type written struct {
	ID        string
	Operation string
	Mark      string // a text that LeadGrid's ledger shows
	CV        []byte
	Dossier   int // in which order it was written on which dossier
}

// writeCases writes contacts, dossiers on them, notes and CVs, in transactions side by side.
func (w *rig) writeCases(creates int) (all []written) {
	w.t.Helper()
	var group errgroup.Group
	group.SetLimit(4)
	const each = 5 // creates in one transaction
	results := make([][]written, creates/each)
	for i := range results {
		group.Go(func() error {
			return pgx.BeginFunc(context.Background(), w.pool, func(tx pgx.Tx) error {
				write := func(c written, call string, args ...any) (string, error) {
					err := tx.QueryRow(context.Background(), `SELECT `+call, args...).Scan(&c.ID)
					c.Dossier = i
					results[i] = append(results[i], c)
					return c.ID, err
				}
				name := fmt.Sprintf("Person %d", i)
				var email *string
				if i%3 > 0 {
					address := fmt.Sprintf("person%d@example.com", i)
					email = &address
				}
				contact, err := write(written{Operation: "contacts.create", Mark: name}, `create_contact($1, email => $2)`, name, email)
				if err != nil {
					return err
				}
				cv := fmt.Appendf(nil, "%%PDF-1.7 the CV of %d", i)
				with := cv
				if i%2 == 0 {
					with = nil
				}
				dossier, err := write(written{Operation: "dossiers.create", Mark: name, CV: with},
					`create_dossier('candidate', $1, contact_id => $2, cv => $3)`, name, contact, with)
				if err != nil {
					return err
				}
				for n := range each - 2 {
					note := fmt.Sprintf("Note %d on %d", n, i)
					if _, err := write(written{Operation: "notes.create", Mark: note}, `add_note($1, $2)`, dossier, note); err != nil {
						return err
					}
				}
				if with == nil {
					_, err = write(written{CV: cv}, `upload_cv($1, $2)`, dossier, cv)
				}
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
	return slices.Concat(results...)
}

// wantOnce holds every command against LeadGrid's ledger.
func (w *rig) wantOnce(cases []written) {
	w.t.Helper()
	ran := make(map[string][]string) // operation and mark to what was made
	for _, create := range w.Creates() {
		var body struct {
			Name     string
			FullName string `json:"full_name"`
			Content  string
		}
		if err := json.Unmarshal([]byte(create.Body), &body); err != nil {
			w.t.Fatal(err)
		}
		key := create.Operation + " " + body.Name + body.FullName + body.Content
		ran[key] = append(ran[key], create.ID)
	}
	states := map[string]int{}
	twice, flagged, sentAgain := 0, 0, 0
	for _, c := range cases {
		row := w.load(c.ID)
		states[row.State]++
		made := ran[c.Operation+" "+c.Mark]
		if row.Attempts > 1 {
			sentAgain++
		}
		if c.Operation != "" && len(made) > 1 {
			twice++
			w.t.Errorf("%s %q ran %d times: %v, attempts %d, error %s", c.Operation, c.Mark, len(made), made, row.Attempts, text(row.Error))
		}
		switch {
		case row.State == "done" && c.Operation != "" && (len(made) != 1 || made[0] != *row.LeadGridID):
			w.t.Errorf("%s %q is done as %s, but LeadGrid ran %v", c.Operation, c.Mark, *row.LeadGridID, made)
		case row.State == "done" && c.CV != nil:
			hash := sha256.Sum256(c.CV)
			if cv, ok := w.CV(*row.LeadGridID); !ok || cv.SHA256 != hex.EncodeToString(hash[:]) {
				w.t.Errorf("dossier %s does not have the CV", *row.LeadGridID)
			}
		case row.State == "refused":
			w.t.Errorf("%s %q was refused: %s", c.Operation, c.Mark, text(row.Error))
		case row.State == "unknown":
			flagged++
			w.t.Logf("flagged: %s %q: %s; it ran as %v", c.Operation, c.Mark, text(row.Error), made)
		}
	}
	w.t.Logf("states %v; sent more than once %d, ran twice %d, flagged %d", states, sentAgain, twice, flagged)
	var cvs, queued int
	w.scan(`SELECT (SELECT count(*) FROM command_cvs), (SELECT count(*) FROM command_queue)`, &cvs, &queued)
	if flagged == 0 && cvs+queued > 0 {
		w.t.Errorf("%d CVs and %d places in the queue are left", cvs, queued)
	}
}

// wantOrder checks that each dossier's commands ran in the order in which they were written.
func (w *rig) wantOrder(cases []written) {
	w.t.Helper()
	at := make(map[string]int)
	for i, create := range w.Creates() {
		at[create.Operation+" "+create.ID] = i
	}
	last := make(map[int]int)
	for _, c := range cases {
		row := w.load(c.ID)
		if c.Operation == "" || row.State != "done" {
			continue
		}
		place := at[c.Operation+" "+*row.LeadGridID]
		if place < last[c.Dossier] {
			w.t.Errorf("%s %q ran before what was written before it", c.Operation, c.Mark)
		}
		last[c.Dossier] = place
	}
}
