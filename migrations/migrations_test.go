package migrations_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

var schemas = migrations.Schemas{Mirror: "leadgrid", Queue: "leadgrid_queue"}

func TestUpFromZeroTwiceAndByFiveAtOnce(t *testing.T) {
	pool := pgtest.Empty(t)
	ctx := t.Context()

	if err := migrations.Check(ctx, pool, schemas); err != migrations.ErrBehind {
		t.Fatalf("Check on an empty database = %v, want ErrBehind", err)
	}
	var group errgroup.Group
	for range 5 {
		group.Go(func() error { return migrations.Up(ctx, pool.Config().ConnConfig, schemas) })
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("five at once: %v", err)
	}
	if err := migrations.Up(ctx, pool.Config().ConnConfig, schemas); err != nil {
		t.Fatalf("again: %v", err)
	}
	if err := migrations.Check(ctx, pool, schemas); err != nil {
		t.Fatalf("Check after Up = %v", err)
	}
	steps, err := fs.Glob(migrations.Files(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got := appliedSteps(t, ctx, pool); got != int64(len(steps))+1 {
		t.Errorf("%d rows in the version table, want each of %d steps once and goose's zero", got, len(steps))
	}
}

func appliedSteps(t *testing.T, ctx context.Context, pool *pgxpool.Pool) (n int64) {
	t.Helper()
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM leadgrid.sync_migrations`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCheckSaysBehindWhenAStepIsMissing(t *testing.T) {
	pool := pgtest.Empty(t)
	ctx := t.Context()
	if err := migrations.Up(ctx, pool.Config().ConnConfig, schemas); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `DELETE FROM leadgrid.sync_migrations WHERE version_id = $1`, migrations.Newest()); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Check(ctx, pool, schemas); err != migrations.ErrBehind {
		t.Errorf("Check = %v, want ErrBehind", err)
	}
}
