package migrations_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

// at makes a database as the first n steps left it.
func at(t *testing.T, n int) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.Empty(t)
	names, err := fs.Glob(migrations.Files(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	steps := fstest.MapFS{}
	for _, name := range names[:n] {
		text, err := fs.ReadFile(migrations.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		steps[name] = &fstest.MapFile{Data: text}
	}
	if _, err := pool.Exec(t.Context(), `CREATE SCHEMA leadgrid`); err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, steps, goose.WithTableName("sync_migrations"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return pool
}

// inventory is all that others may have built on: columns with their types and places, and functions.
const inventory = `
	SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE c.relkind WHEN 'v' THEN ' at ' || a.attnum ELSE '' END
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE c.relnamespace = 'leadgrid'::regnamespace AND c.relkind IN ('r', 'v', 'm')
	UNION
	SELECT p.oid::regprocedure::text || ' ' || p.prorettype::regtype FROM pg_proc p WHERE p.pronamespace = 'leadgrid'::regnamespace`

func list(t *testing.T, pool *pgxpool.Pool, sql string) []string {
	t.Helper()
	rows, err := pool.Query(context.WithoutCancel(t.Context()), sql)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return texts
}

// TestUpgradeKeepsWhatCustomersBuilt upgrades a database with data, from the first schema and from the previous one, and finds
// the customer's views, and all that the previous version's programs and others could use, as they were.
func TestUpgradeKeepsWhatCustomersBuilt(t *testing.T) {
	steps, err := fs.Glob(migrations.Files(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int{1, len(steps) - 1} {
		t.Run(fmt.Sprintf("from %s", steps[from-1]), func(t *testing.T) {
			pool := at(t, from)
			for _, sql := range []string{
				`ALTER TABLE contacts ADD COLUMN score numeric`, // as a mapping does
				`ALTER TABLE IF EXISTS contacts_history ADD COLUMN score numeric`,
				`INSERT INTO contacts (id, full_name, email, kind, score, _raw, _hash) VALUES ('c', 'Ana', 'ana@x.be', '{client}', 7, '{"id":"c"}', 1)`,
				`INSERT INTO dossiers (id, name, current_stage_id, deal_size, status) VALUES ('d', 'Deal', 's', 10.50, 'active')`,
				`INSERT INTO stages (id, name, win_probability) VALUES ('s', 'Offer', 50)`,
				`INSERT INTO dossier_contacts (dossier_id, contact_id) VALUES ('d', 'c')`,
				`INSERT INTO webhook_events (digest, id, payload, flush) VALUES ('a', 'evt_1', '{}', 1)`,
				`CREATE SCHEMA theirs`,
				`CREATE VIEW theirs.everything AS SELECT c.*, d.* FROM (SELECT id AS contact, full_name, kind, score, _raw AS object FROM contacts) c, dossiers d`,
				`CREATE VIEW theirs.stacked AS SELECT e.full_name, e.deal_size * s.win_probability / 100 AS worth FROM theirs.everything e JOIN stages s ON s.id = e.current_stage_id`,
				`CREATE MATERIALIZED VIEW theirs.stored AS SELECT * FROM theirs.stacked`,
				`CREATE FUNCTION theirs.how_fresh() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM freshness WHERE events_waiting = 0; END`,
			} {
				if _, err := pool.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			const answers = `
				SELECT to_jsonb(e)::text FROM theirs.everything e UNION ALL SELECT to_jsonb(s)::text FROM theirs.stacked s
				UNION ALL SELECT to_jsonb(m)::text FROM theirs.stored m UNION ALL SELECT theirs.how_fresh()::text
				UNION ALL SELECT concat_ws(' ', c.id, c.full_name, c.email, c.score, c._raw, c._hash, e.id) FROM contacts c, webhook_events e`
			before, had := list(t, pool, answers), list(t, pool, inventory)
			if err := migrations.Up(t.Context(), pool.Config().ConnConfig, schemas); err != nil {
				t.Fatal(err)
			}
			pool.Reset() // its prepared statements
			if after := list(t, pool, answers); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the customer's views answer\n%q, want\n%q", after, before)
			}
			if _, err := pool.Exec(t.Context(), `REFRESH MATERIALIZED VIEW theirs.stored`); err != nil {
				t.Error(err)
			}
			has := map[string]bool{}
			for _, item := range list(t, pool, inventory) {
				has[item] = true
			}
			for _, item := range had {
				if !has[item] {
					t.Errorf("%s is gone", item)
				}
			}
			if len(has) < len(had) || len(had) < 100 {
				t.Errorf("before there were %d things, now %d", len(had), len(has))
			}
			// The history has the column that a mapping had added before there was one.
			if _, err := pool.Exec(t.Context(), `INSERT INTO contacts_history (id, full_name, score, valid_from) SELECT id, full_name, score, now() FROM contacts`); err != nil {
				t.Error(err)
			}
		})
	}
}
