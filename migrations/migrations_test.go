package migrations_test

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
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

// TestOlderProgramsGoOnWithANewerSchema: while a release is rolled out, and after it is rolled back, the previous programs
// meet steps that they do not know.
func TestOlderProgramsGoOnWithANewerSchema(t *testing.T) {
	pool := pgtest.New(t)
	ctx := t.Context()
	for _, step := range []string{
		`INSERT INTO leadgrid.sync_migrations (version_id, is_applied) SELECT max(version_id) + 1, true FROM leadgrid.sync_migrations`,
		`INSERT INTO leadgrid_queue.river_migration (line, version) SELECT line, max(version) + 1 FROM leadgrid_queue.river_migration GROUP BY line`,
	} {
		if _, err := pool.Exec(ctx, step); err != nil {
			t.Fatal(err)
		}
		if err := migrations.Check(ctx, pool, schemas); err != nil {
			t.Errorf("Check on a newer schema = %v", err)
		}
		if err := migrations.Up(ctx, pool.Config().ConnConfig, schemas); err != nil {
			t.Errorf("Up on a newer schema = %v", err)
		}
	}
}

// takesAway are statements that programs of the release before could not go on with.
var takesAway = regexp.MustCompile(`(?i)\b(DROP\s+(TABLE|COLUMN|VIEW|FUNCTION|SCHEMA)|RENAME|ALTER\s+(COLUMN\s+)?\w+\s+(TYPE|SET\s+NOT\s+NULL)|TRUNCATE)\b`)

// TestStepsOnlyAdd: expand first, contract a release later.
func TestStepsOnlyAdd(t *testing.T) {
	allowed := map[string]string{
		"00007_history.sql": "takes columns off tables that it has just made",
	}
	steps, err := fs.Glob(migrations.Files(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		text, err := fs.ReadFile(migrations.Files(), step)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		if found := takesAway.FindString(up); found != "" && allowed[step] == "" {
			t.Errorf("%s: %s takes away what the previous release's programs use", step, found)
		}
	}
}
