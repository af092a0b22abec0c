package writeback_test

import (
	"context"
	"fmt"
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

// BenchmarkCommands measures how long it takes from a command's being written to LeadGrid's answer being stored, one
// command after the other and 16 callers side by side. The stand-in answers at once.
func BenchmarkCommands(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
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
			b.ResetTimer()
			var group errgroup.Group
			group.SetLimit(callers)
			for i := range b.N {
				group.Go(func() error { return writeAndWait(ctx, pool, i) })
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			var half, most float64
			err = pool.QueryRow(ctx, `
				SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.99) WITHIN GROUP (ORDER BY took)
				FROM (SELECT extract(epoch FROM answered_at - created_at)::float8 * 1000 AS took FROM commands) c`).Scan(&half, &most)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(half, "p50-ms")
			b.ReportMetric(most, "p99-ms")
		})
	}
}

func writeAndWait(ctx context.Context, pool *pgxpool.Pool, i int) error {
	var id string
	if err := pool.QueryRow(ctx, `SELECT create_dossier('candidate', $1)`, fmt.Sprintf("Person %d", i)).Scan(&id); err != nil {
		return err
	}
	for done := false; !done; {
		if err := pool.QueryRow(ctx, `SELECT state = 'done' FROM commands WHERE id = $1::uuid`, id).Scan(&done); err != nil {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
