// Package pgtest gives each test a Postgres database of its own, migrated and empty, in about ten milliseconds.
//
// The databases are on the server that TEST_DATABASE_URL names (`make test` sets it), or else on a throwaway server that the
// test program starts for itself. They are copies of a template that is migrated once per server.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

// Schemas are the schemas of the databases that New and URL make: the programs' defaults.
var Schemas = migrations.Schemas{Mirror: "leadgrid", Queue: "leadgrid_queue"}

// New makes a migrated database and returns a pool on it whose search_path is the mirror's schema, as in the programs. The
// database is dropped when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	// Test tables are small: planning a statement takes longer than running it.
	return open(t, URL(t), map[string]string{"plan_cache_mode": "force_generic_plan"})
}

// URL makes a migrated database and returns its URL, to be a program's DATABASE_URL. The database is dropped when the test
// ends, even if somebody is still connected.
func URL(t testing.TB) string {
	t.Helper()
	host := theHost(t)
	template, err := host.template()
	if err != nil {
		t.Fatalf("pgtest: make the template: %v", err)
	}
	return host.database(t, template)
}

// Empty makes a database without our schemas and returns a pool on it.
func Empty(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Open(t, theHost(t).database(t, "template0"))
}

// Open returns a pool on a database that URL made; it is closed when the test ends.
func Open(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	return open(t, url, nil)
}

func open(t testing.TB, url string, parameters map[string]string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	config.MaxConns = 10
	config.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{Schemas.Mirror}.Sanitize()
	config.ConnConfig.RuntimeParams["jit"] = "off"
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return pool
}

// Own starts a server that nobody else writes to and returns a pool on a migrated database there, for tests that measure. Both
// are gone when the test ends.
func Own(t testing.TB, options postgres.Options) *pgxpool.Pool {
	t.Helper()
	server, err := postgres.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return Migrate(t, server.URL("postgres"))
}

// Migrate makes the schemas in an empty database and returns a pool on it, as Open does.
func Migrate(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool := Open(t, url)
	if err := migrations.Up(t.Context(), pool.Config().ConnConfig, Schemas); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return pool
}

// closePool fails the test instead of hanging it when a connection was never given back.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Errorf("pgtest: %d connections of the pool are still in use at the end of the test", pool.Stat().AcquiredConns())
	}
}

// host is the server on which this process makes its databases.
type host struct {
	admin *pgxpool.Pool // on the maintenance database

	once         sync.Once
	templateName string
	templateErr  error
}

var startHost = sync.OnceValues(func() (*host, error) {
	url := os.Getenv("TEST_DATABASE_URL")
	if url == "" {
		// Nobody stops this server: it ends with this process, even after kill -9.
		server, err := postgres.Start(context.Background(), postgres.Options{})
		if err != nil {
			return nil, err
		}
		url = server.URL("postgres")
	}
	return newHost(url)
})

func newHost(url string) (*host, error) {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return nil, errors.New("TEST_DATABASE_URL must be a URL that starts with postgres://")
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("TEST_DATABASE_URL: %w", err)
	}
	config.MaxConns = 4
	admin, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	return &host{admin: admin}, nil
}

func theHost(t testing.TB) *host {
	t.Helper()
	h, err := startHost()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return h
}

// database makes a copy of the template for the test.
func (h *host) database(t testing.TB, template string) string {
	t.Helper()
	name := databaseName(t.Name())
	if err := h.create(t.Context(), name, template); err != nil {
		t.Fatalf("pgtest: make a database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := h.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: drop the database: %v", err)
		}
	})
	return h.url(name)
}

var unwanted = regexp.MustCompile(`[^a-z0-9]+`)

// databaseName starts with the test's name, to help reading the server's log and pg_stat_activity.
func databaseName(test string) string {
	name := strings.Trim(unwanted.ReplaceAllString(strings.ToLower(test), "_"), "_")
	return name[:min(len(name), 45)] + "_" + strings.ToLower(rand.Text()[:10]) // 63 bytes are what Postgres keeps
}

func (h *host) create(ctx context.Context, name, template string) error {
	sql := "CREATE DATABASE " + quote(name) + " TEMPLATE " + quote(template)
	conn, err := h.admin.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if atLeast15(conn.Conn().PgConn().ParameterStatus("server_version")) {
		sql += " STRATEGY file_copy" // the default writes the whole template to the WAL
	}
	_, err = conn.Exec(ctx, sql)
	return err
}

func atLeast15(version string) bool {
	var major int
	_, err := fmt.Sscanf(version, "%d", &major)
	return err == nil && major >= 15
}

// url returns the host's URL with another database.
func (h *host) url(database string) string {
	return withDatabase(h.admin.Config().ConnString(), database)
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
