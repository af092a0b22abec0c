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

// The workers of two mirrors that share a queue would take each other's jobs, and leave them undone.
func TestTwoMirrorsCannotShareAQueue(t *testing.T) {
	pool := pgtest.Empty(t)
	ctx, config := t.Context(), pool.Config().ConnConfig
	if err := migrations.Up(ctx, config, schemas); err != nil {
		t.Fatal(err)
	}
	err := migrations.Up(ctx, config, migrations.Schemas{Mirror: "leadgrid_b", Queue: schemas.Queue})
	if err == nil || !strings.Contains(err.Error(), "belongs to the mirror in schema leadgrid, not to the one in leadgrid_b: set LEADGRID_QUEUE_SCHEMA") {
		t.Errorf("Up = %v", err)
	}
	var made bool
	if err := pool.QueryRow(ctx, `SELECT to_regnamespace('leadgrid_b') IS NOT NULL`).Scan(&made); err != nil || made {
		t.Errorf("its schema was made: %v, %v", made, err)
	}
	if err := migrations.Up(ctx, config, migrations.Schemas{Mirror: "leadgrid_b", Queue: "leadgrid_queue_b"}); err != nil {
		t.Errorf("with a queue of its own: %v", err)
	}
}

func TestDatabaseMustHoldEveryText(t *testing.T) {
	pool := pgtest.Empty(t)
	ctx, config := t.Context(), pool.Config().ConnConfig.Copy()
	name := config.Database + "_ascii"
	if _, err := pool.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`); err != nil {
		t.Fatal(err)
	}
	defer pool.Exec(context.WithoutCancel(ctx), `DROP DATABASE `+name+` WITH (FORCE)`)
	config.Database = name
	if err := migrations.Up(ctx, config, schemas); err == nil || !strings.Contains(err.Error(), "create one with ENCODING 'UTF8'") {
		t.Errorf("Up = %v", err)
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
