package simulate_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/simulate"
)

var (
	seeds = flag.Int("seeds", 24, "how many seeds to simulate")
	first = flag.Uint64("first", 1, "the first seed")
)

func TestSimulate(t *testing.T) {
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			log := slog.New(slog.DiscardHandler)
			if *seeds == 1 {
				log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			}
			report, err := simulate.Run(t.Context(), pgtest.New(t), pgtest.Schemas.Queue, seed, log)
			if err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if report != nil {
				for _, failure := range report.Failures {
					t.Error(failure)
				}
				t.Logf("%d requests, %d events in %v", report.Requests, report.Events, report.Took)
			}
			if t.Failed() {
				t.Logf("repeat it with: go test ./internal/simulate -run TestSimulate -seeds 1 -first %d -v", seed)
				if report != nil {
					t.Logf("habits: %+v\nfaults: %+v", report.Habits, report.Faults)
				}
			}
		})
	}
}
