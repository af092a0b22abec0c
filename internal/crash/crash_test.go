package crash_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

var (
	rounds = flag.Int("rounds", 1, "how many rounds of kill -9 to play")
	long   = flag.Bool("long", false, "play the weathers that take until time-outs end, too")
	seed   = flag.Uint64("seed", 1, "what the rounds are drawn from")
)

// TestPromise13_KillAnywhere kills the receiver, the worker and Postgres at random moments while people edit, webhooks
// come in and a sweep runs. After each round nothing acked may be missing, nothing may be there twice, and one
// `worker sync --wait` must make the mirror equal.
func TestPromise13_KillAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, *seed, nil)
	w.sync(t)
	w.wantEqual(t)
	rng := rand.New(rand.NewPCG(*seed, 13))
	for n := 1; n <= *rounds && !t.Failed(); n++ {
		began := time.Now()
		kills := w.play(t, rng)
		w.settle(t)
		w.wantNothingLost(t)
		w.wantNothingTwice(t)
		w.sync(t)
		w.wantEqual(t)
		t.Logf("round %d: killed %s; %d events acked so far; %v", n, strings.Join(kills, ", "), w.acked(), time.Since(began).Round(time.Second))
	}
}

// play is one round of work and kills.
func (w *world) play(t *testing.T, rng *rand.Rand) (kills []string) {
	t.Helper()
	working, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Live(working, 60)
	}()
	defer func() { stop(); <-done }()
	w.ask(t)
	for range 2 + rng.IntN(3) {
		moment(rng, 700)
		victim := []string{"receiver", "worker", "postgres"}[rng.IntN(3)]
		kills = append(kills, victim)
		if victim == "postgres" {
			if err := w.postgres.Kill(); err != nil {
				t.Fatal(err)
			}
			moment(rng, 300)
			if err := w.postgres.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		program := map[string]*program{"receiver": w.receiver, "worker": w.worker}[victim]
		program.kill()
		moment(rng, 300)
		program.start(t)
	}
	moment(rng, 300)
	return kills
}

// moment lets a random time pass: when a kill strikes is what a round is about.
func moment(rng *rand.Rand, milliseconds int) {
	<-time.After(time.Duration(rng.IntN(milliseconds)) * time.Millisecond)
}

// settle waits until all webhooks are delivered or given up and all of their flushes are processed. A killed worker's jobs
// are rescued after a minute, and its leadership ends after a while: both are made to have passed.
func (w *world) settle(t *testing.T) {
	t.Helper()
	w.receiver.start(t)
	w.receiver.awaitReady(t)
	if err := w.DrainWebhooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.worker.kill()
	w.letAMinutePass(t)
	w.worker.start(t)
	w.worker.awaitReady(t)
	w.awaitEvents(t)
}

// letAMinutePass has River hand out again what nobody works on: jobs of a killed worker, and those whose handing out was
// committed but never heard of, as the connection was cut. It does so after a minute, when its leader looks.
func (w *world) letAMinutePass(t *testing.T) {
	t.Helper()
	w.exec(t, `UPDATE leadgrid_queue.river_job SET attempted_at = attempted_at - interval '1 hour' WHERE state = 'running'`)
	w.exec(t, `DELETE FROM leadgrid_queue.river_leader`)
}

// awaitEvents waits until all flushes of events are processed.
func (w *world) awaitEvents(t *testing.T) {
	t.Helper()
	eventually.True(t, "all events to be processed", func() bool {
		return w.count(t, `SELECT count(*) FROM sync_flushes WHERE done_at IS NULL`) == 0
	}, func() string {
		return w.text(t, `SELECT string_agg(kind || ' ' || state || ' ' || attempt || ' ' || coalesce(errors[array_upper(errors, 1)]->>'error', ''), E'\n')
			FROM leadgrid_queue.river_job WHERE finalized_at IS NULL`)
	})
}

func (w *world) acked() int {
	acked := make(map[string]bool)
	for _, delivery := range w.Deliveries() {
		if delivery.Status >= 200 && delivery.Status < 300 {
			acked[delivery.EventID] = true
		}
	}
	return len(acked)
}

// wantNothingLost looks for events that were acked and are not stored, and for stages they told that the history lacks.
func (w *world) wantNothingLost(t *testing.T) {
	t.Helper()
	stored := w.set(t, `SELECT id FROM webhook_events`)
	history := w.set(t, `SELECT event_id FROM dossier_stage_history WHERE event_id IS NOT NULL`)
	for _, delivery := range w.Deliveries() {
		if delivery.Status < 200 || delivery.Status > 299 {
			continue
		}
		if !stored[delivery.EventID] {
			t.Errorf("event %s was acked and is lost", delivery.EventID)
		}
		if delivery.Type == "dossier.stage_changed" && !history[delivery.EventID] {
			t.Errorf("the stage that event %s told of is not in the history", delivery.EventID)
		}
	}
}

// wantNothingTwice looks for what a repeated delivery, flush or job could leave behind.
func (w *world) wantNothingTwice(t *testing.T) {
	t.Helper()
	for what, sql := range map[string]string{
		"events stored twice":                     `SELECT count(*) - count(DISTINCT id) FROM webhook_events`,
		"events that no flush counts, or several": `SELECT (SELECT sum(events) FROM sync_flushes) - (SELECT count(*) FROM webhook_events)`,
		"events that entered a stage twice":       `SELECT count(*) - count(DISTINCT event_id) FROM dossier_stage_history WHERE event_id IS NOT NULL`,
		"flushes with two jobs": `SELECT count(*) - count(DISTINCT flush) FROM leadgrid_queue.river_job
			LEFT JOIN webhook_events ON digest = decode(args->>'event', 'hex') WHERE kind = 'leadgrid_events'`,
		"flushes with two rechecks": `SELECT count(*) - count(DISTINCT args->>'flush') FROM leadgrid_queue.river_job WHERE kind = 'leadgrid_recheck'`,
		"jobs given up":             `SELECT count(*) FROM leadgrid_queue.river_job WHERE state IN ('discarded', 'cancelled')`,
	} {
		if n := w.count(t, sql); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
}

func (w *world) wantEqual(t *testing.T) {
	t.Helper()
	differences, err := oracle.Differences(t.Context(), w.pool, oracle.Truth(w.Snapshot()), oracle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range differences {
		t.Error(difference)
	}
}

// ask asks for a sweep that the worker does.
func (w *world) ask(t *testing.T) {
	t.Helper()
	if output, code := w.run(t, "worker", "sync"); code != 0 {
		t.Fatalf("worker sync ended with %d: %s", code, output)
	}
}

func (w *world) sync(t *testing.T) {
	t.Helper()
	output, code := w.run(t, "worker", "sync", "--wait")
	if code == 6 { // that many really were removed
		output, code = w.run(t, "worker", "sync", "--wait", "--accept-deletions")
	}
	if code != 0 {
		t.Fatalf("worker sync --wait ended with %d: %s", code, output)
	}
}

func options(seed uint64) leadgridtest.Options {
	return leadgridtest.Options{Seed: seed, Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{ReplicaLag: lag / 2, ReplicaShare: 0.3},
		Limits: leadgridtest.Limits{WebhookBackoff: 100 * time.Millisecond, WebhookConcurrency: 8, WebhookTimeout: 2 * time.Second},
		Faults: leadgridtest.Faults{WebhookDoubled: 0.2, WebhookReordered: 0.2},
	}}
}

var size = leadgridtest.Size{Dossiers: 80, Contacts: 60, Links: 50, Notes: 100}

func (w *world) count(t *testing.T, sql string) (n int64) {
	t.Helper()
	if err := w.pool.QueryRow(t.Context(), `SELECT coalesce((`+sql+`), 0)`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) text(t *testing.T, sql string) (text string) {
	t.Helper()
	if err := w.pool.QueryRow(t.Context(), `SELECT coalesce((`+sql+`), '')`).Scan(&text); err != nil {
		return fmt.Sprint(err)
	}
	return text
}
