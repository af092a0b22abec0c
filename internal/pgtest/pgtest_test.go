package pgtest

import (
	"context"
	"testing"
	"testing/fstest"

	"golang.org/x/sync/errgroup"
)

func TestNewIsMigratedAndOneTestsOwn(t *testing.T) {
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := New(t)
			// Unqualified: the pool's search_path must lead to the mirror.
			if _, err := pool.Exec(t.Context(), "INSERT INTO flows (id) VALUES ('f1')"); err != nil {
				t.Fatal(err)
			}
			var rows int
			if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM flows").Scan(&rows); err != nil || rows != 1 {
				t.Errorf("%d flows, %v, want only this test's own", rows, err)
			}
			if _, err := pool.Exec(t.Context(), "SELECT FROM leadgrid_queue.river_job"); err != nil {
				t.Errorf("River's tables: %v", err)
			}
		})
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	var name string
	t.Run("A test/with a long name, a very long name indeed, and signs", func(t *testing.T) {
		pool := Open(t, URL(t))
		if err := pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
		if exists := databaseExists(t, theHost(t), name); !exists {
			t.Fatalf("no database %s while its test runs", name)
		}
	})
	if exists := databaseExists(t, theHost(t), name); exists {
		t.Errorf("database %s outlived its test", name)
	}
}

func TestEmptyHasNoSchemaOfOurs(t *testing.T) {
	pool := Empty(t)
	var schemas int
	err := pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'leadgrid%'").Scan(&schemas)
	if err != nil || schemas != 0 {
		t.Errorf("%d schemas, %v, want none", schemas, err)
	}
}

// Many packages' tests start at once, and one of them may have been killed at the wrong moment before.
func TestTemplateIsMadeOnceByMany(t *testing.T) {
	ctx, name := t.Context(), databaseName("template")
	first := theHost(t)
	if err := first.create(ctx, name+"_new", "template0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := first.admin.Exec(context.Background(), "DROP DATABASE IF EXISTS "+quote(name)); err != nil {
			t.Error(err)
		}
	})
	var group errgroup.Group
	for range 8 {
		other, err := newHost(first.admin.Config().ConnString())
		if err != nil {
			t.Fatal(err)
		}
		defer other.admin.Close()
		group.Go(func() error {
			if err := other.makeTemplate(ctx, name); err != nil {
				return err
			}
			copied := databaseName("copy")
			if err := other.create(ctx, copied, name); err != nil {
				return err
			}
			_, err := other.admin.Exec(ctx, "DROP DATABASE "+quote(copied))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if databaseExists(t, first, name+"_new") {
		t.Error("an unfinished template is left")
	}
}

func TestFingerprintFollowsTheMigrations(t *testing.T) {
	step := func(name, sql string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(sql)}} }
	seen := map[string]string{}
	for what, files := range map[string]fstest.MapFS{
		"a step":        step("00001_a.sql", "SELECT 1"),
		"other SQL":     step("00001_a.sql", "SELECT 2"),
		"another name":  step("00002_a.sql", "SELECT 1"),
		"no step":       {},
		"an added step": {"00001_a.sql": {Data: []byte("SELECT 1")}, "00002_b.sql": {Data: []byte("SELECT 1")}},
	} {
		mark, err := fingerprint(files)
		if err != nil {
			t.Fatal(err)
		}
		if same, taken := seen[mark]; taken {
			t.Errorf("%s has the fingerprint of %s", what, same)
		}
		seen[mark] = what
	}
}

func databaseExists(t *testing.T, h *host, name string) (exists bool) {
	t.Helper()
	err := h.admin.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil {
		t.Fatal(err)
	}
	return exists
}

func BenchmarkNew(b *testing.B) {
	URL(b)
	for b.Loop() {
		URL(b)
	}
}
