package writeback_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// BenchmarkCommands measures how long it takes from a caller's commit until LeadGrid acts on the command, and until the
// caller can read its outcome: one command after the other, and with 16 callers, who keep all slots busy. The stand-in answers
// at once.
func BenchmarkCommands(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchmarkCommands(b, callers) })
	}
}

func benchmarkCommands(b *testing.B, callers int) {
	server := leadgridtest.New(leadgridtest.Options{})
	defer server.Close()
	pool := pgtest.New(b)
	api, err := leadgridapi.New(server.URL(), server.Key())
	if err != nil {
		b.Fatal(err)
	}
	gate := access.New(pool, 0)
	observer := observe.New(api, mirror.New(pool, mirror.Options{}), gate)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		writeback.New(pool, api, observer, gate, writeback.Options{}).Run(ctx)
		close(ended)
	}()
	defer func() { stop(); <-ended }()
	committed, done := make([]time.Time, b.N), make([]time.Time, b.N)
	b.ResetTimer()
	var group errgroup.Group
	group.SetLimit(callers)
	for i := range b.N {
		group.Go(func() (err error) {
			committed[i], done[i], err = writeAndWait(ctx, pool, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	var toLeadGrid, toOutcome []time.Duration
	for _, create := range server.Creates() {
		var sent struct {
			Name int `json:",string"`
		}
		if err := json.Unmarshal([]byte(create.Body), &sent); err != nil {
			b.Fatal(err)
		}
		toLeadGrid = append(toLeadGrid, create.Time.Sub(committed[sent.Name]))
		toOutcome = append(toOutcome, done[sent.Name].Sub(committed[sent.Name]))
	}
	report(b, toLeadGrid, "to-LeadGrid")
	report(b, toOutcome, "to-outcome")
}

func report(b *testing.B, took []time.Duration, what string) {
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, what+"-p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, what+"-p99-ms")
}

// writeAndWait writes a command, and says when that was committed and when it was seen to be done.
func writeAndWait(ctx context.Context, pool *pgxpool.Pool, i int) (committed, done time.Time, err error) {
	var id string
	if err := pool.QueryRow(ctx, `SELECT create_dossier('candidate', $1)`, strconv.Itoa(i)).Scan(&id); err != nil {
		return committed, done, err
	}
	committed = time.Now()
	for isDone := false; !isDone; done = time.Now() {
		if err := pool.QueryRow(ctx, `SELECT state = 'done' FROM commands WHERE id = $1::uuid`, id).Scan(&isDone); err != nil {
			return committed, done, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return committed, done, ctx.Err()
		}
	}
	return committed, done, nil
}
