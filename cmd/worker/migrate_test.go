package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

func TestMigrateFiveAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	if _, err := w.pool.Exec(t.Context(), `DROP SCHEMA leadgrid, leadgrid_queue CASCADE`); err != nil {
		t.Fatal(err)
	}
	reader := w.role(t)
	var said [5]bytes.Buffer
	var running [5]*exec.Cmd
	for i := range running {
		running[i] = w.command(t, "migrate", "--read-role", reader)
		running[i].Stdout, running[i].Stderr = &said[i], &said[i]
		if err := running[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, said[i].String())
		}
	}
	if err := migrations.Check(t.Context(), w.pool, pgtest.Schemas); err != nil {
		t.Error(err)
	}
}

// role makes a role that goes with the database.
func (w *world) role(t *testing.T) string {
	t.Helper()
	name := "Reader " + rand.Text()[:8] // to be quoted
	quoted := pgx.Identifier{name}.Sanitize()
	if _, err := w.pool.Exec(t.Context(), `CREATE ROLE `+quoted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := w.pool.Exec(context.Background(), `DROP OWNED BY `+quoted+`; DROP ROLE `+quoted); err != nil {
			t.Error(err)
		}
	})
	return name
}

func TestMigrateLetsARoleRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	reader := w.role(t)
	for range 2 {
		w.run(t, "migrate", "--read-role", reader).want(t, 0, reader+" may read")
	}
	w.run(t, "migrate", "--read-role", reader+" unknown").want(t, exitFailed, "does not exist")

	rows, err := w.pool.Query(t.Context(), `
		SELECT relname FROM pg_class
		WHERE relnamespace IN ('leadgrid'::regnamespace, 'leadgrid_queue'::regnamespace) AND relkind IN ('r', 'v', 'm')
		  AND has_table_privilege($1, oid, 'SELECT') AND has_schema_privilege($1, relnamespace, 'USAGE')
		ORDER BY relname COLLATE "C"`, reader)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := " " + strings.Join(names, " ") + " "
	for _, name := range []string{"contacts", "dossier_contacts", "dossier_stage_history", "dossiers", "flows", "freshness", "notes", "stages"} {
		if !strings.Contains(got, " "+name+" ") {
			t.Errorf("%s cannot be read", name)
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "sync_") || strings.HasPrefix(name, "river_") || name == "webhook_events" {
			t.Errorf("%s can be read", name)
		}
	}
	// The views, too, show what they are made for to whoever may only read.
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE `+pgx.Identifier{reader}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := tx.Exec(t.Context(), `SELECT * FROM `+pgx.Identifier{name}.Sanitize()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	var writes int
	err = w.pool.QueryRow(t.Context(), `
		SELECT count(*) FROM pg_class WHERE relnamespace = 'leadgrid'::regnamespace AND relkind IN ('r', 'v', 'm')
		  AND has_table_privilege($1, oid, 'INSERT, UPDATE, DELETE, TRUNCATE')`, reader).Scan(&writes)
	if err != nil || writes > 0 {
		t.Errorf("%d tables can be written, %v", writes, err)
	}
}
