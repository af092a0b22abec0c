package settings_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

func database(secret settings.Secret) settings.Database {
	return settings.Database{URL: secret, Schema: "leadgrid", QueueSchema: "leadgrid_queue", MaxConns: 7}
}

func TestOpen(t *testing.T) {
	url := pgtest.URL(t)
	_, err := pgtest.Open(t, url).Exec(t.Context(), `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$`)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := database(settings.NewSecret(url)).Open(t.Context(), "test of settings")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var path, name string
	err = pool.QueryRow(t.Context(), "SELECT current_setting('search_path'), current_setting('application_name')").Scan(&path, &name)
	if err != nil || path != `"leadgrid"` || name != "test of settings" {
		t.Errorf("search_path %s, application_name %s, %v", path, name, err)
	}
	if _, err := pool.Exec(t.Context(), "SELECT FROM dossiers"); err != nil {
		t.Errorf("an unqualified name: %v", err)
	}
	var timeout, isolation string
	err = pool.QueryRow(t.Context(), "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_isolation')").
		Scan(&timeout, &isolation)
	if err != nil || timeout != "15s" || isolation != "read committed" {
		t.Errorf("a frozen process holds its locks for %s, transactions are %s, %v", timeout, isolation, err)
	}
	if got := pool.Config().MaxConns; got != 7 {
		t.Errorf("MaxConns = %d, want 7", got)
	}
}

func TestOpenSaysWhenTheServerIsAway(t *testing.T) {
	_, err := database(settings.NewSecret("postgres://sync:hunter2@127.0.0.1:1/crm?sslmode=disable")).Open(t.Context(), "test")
	if err == nil || !strings.HasPrefix(err.Error(), "the database of DATABASE_URL cannot be used: ") ||
		!strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Open = %v, want where it tried and why it failed", err)
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in %v", err)
	}
}

// New connections take the password that the file holds then.
func TestPoolFollowsTheFileOfItsURL(t *testing.T) {
	first, err := url.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, first.String())
	environment(t, map[string]string{"DATABASE_URL_FILE": path})
	synctest.Test(t, func(t *testing.T) {
		var d settings.Database
		if err := settings.Load(&d); err != nil {
			t.Fatal(err)
		}
		config, err := d.PoolConfig("test")
		if err != nil {
			t.Fatal(err)
		}
		rotated := *first
		rotated.User = url.UserPassword("sync", "rotated")
		write(t, path, rotated.String())
		time.Sleep(time.Second)
		conn := config.ConnConfig.Copy()
		if err := config.BeforeConnect(context.Background(), conn); err != nil {
			t.Fatal(err)
		}
		if conn.User != "sync" || conn.Password != "rotated" || conn.Host != first.Query().Get("host") {
			t.Errorf("the next connection goes to %s as %s with %q", conn.Host, conn.User, conn.Password)
		}
	})
}

func TestLogger(t *testing.T) {
	for format, want := range map[string]string{
		"json": `"level":"WARN","msg":"heard","id":"d1"`,
		"auto": `"level":"WARN","msg":"heard","id":"d1"`, // a buffer is no terminal
		"text": `WRN heard id=d1`,
	} {
		var out bytes.Buffer
		logger := settings.Log{Level: slog.LevelWarn, Format: format}.Logger(&out)
		logger.Info("not heard")
		logger.Warn("heard", "id", "d1")
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "not heard") {
			t.Errorf("%s: logged %q, want only %q", format, got, want)
		}
	}
}
