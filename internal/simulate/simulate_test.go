package simulate_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/simulate"
)

var (
	seeds = flag.Int("seeds", 100, "how many seeds to simulate")
	first = flag.Uint64("first", 1, "the first seed")
	scale = flag.Int("scale", 1, "how much there is of everything, rows and edits")
	// Seeds wait much, for replicas, rate windows and queues.
	atOnce = flag.Int("at-once", 14, "how many seeds to play side by side")
	only   = flag.String("only", "", "simulate these seeds instead, with commas between them")
)

// TestSimulate plays the seeds on a few databases, since to make one, to connect to it and to plan every statement anew
// took longer than to play a seed.
func TestSimulate(t *testing.T) {
	debug.SetGCPercent(400) // there is memory enough, and the processors are what seeds wait for
	chosen := chosenSeeds(t)
	next := make(chan uint64, len(chosen))
	slices.SortStableFunc(chosen, func(a, b uint64) int { return slowness(b) - slowness(a) })
	for _, seed := range chosen {
		next <- seed
	}
	close(next)
	var wait sync.WaitGroup
	for range min(*atOnce, len(chosen)) {
		wait.Go(func() {
			var pool *pgxpool.Pool
			for seed := range next {
				if pool == nil {
					pool = pgtest.New(t)
				}
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { simulateSeed(t, pool, seed) }) {
					pool = nil // who knows what is still under way on it
				}
			}
		})
	}
	wait.Wait()
}

// slowness puts first what waits for LeadGrid's rate limit, so that nothing waits for it in the end.
func slowness(seed uint64) int {
	if simulate.Limited(seed) {
		return 1
	}
	return 0
}

func chosenSeeds(t *testing.T) (chosen []uint64) {
	if *only == "" {
		for seed := *first; seed < *first+uint64(*seeds); seed++ {
			chosen = append(chosen, seed)
		}
	}
	for text := range strings.FieldsFuncSeq(*only, func(r rune) bool { return r == ',' }) {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		chosen = append(chosen, seed)
	}
	return chosen
}

func simulateSeed(t *testing.T, pool *pgxpool.Pool, seed uint64) {
	log := slog.New(slog.DiscardHandler)
	if *seeds == 1 {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	report, err := simulate.Run(t.Context(), pool, simulate.Options{
		Seed: seed, Scale: *scale, QueueSchema: pgtest.Schemas.Queue, Log: log,
	})
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	if report != nil {
		for _, failure := range report.Failures {
			t.Error(failure)
		}
		t.Logf("%d requests, %d events in %v: %s", report.Requests, report.Events, report.Took.Round(time.Millisecond), strings.Join(report.Played, ", "))
	}
	if t.Failed() {
		t.Logf("repeat it with: go test ./internal/simulate -run TestSimulate -scale %d -seeds 1 -first %d -v", *scale, seed)
		if report != nil {
			t.Logf("habits: %+v\nfaults: %+v\n%s", report.Habits, report.Faults, report.Trace)
		}
	}
}
