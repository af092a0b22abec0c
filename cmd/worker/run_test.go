package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestRunWaitsForTheSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	if _, err := w.pool.Exec(t.Context(), `DROP SCHEMA leadgrid, leadgrid_queue CASCADE`); err != nil {
		t.Fatal(err)
	}
	w.env["ADMIN_PASSWORD"] = "river"
	running := w.start(t)
	if status, text := running.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz = %d %s", status, text)
	}
	eventually.True(t, "the worker to say what it waits for", func() bool { return strings.Contains(running.logged(), "run `worker migrate`") })
	status, text := running.get(t, "/readyz")
	for _, line := range []string{"database: ok\n", "schema: the database schema is not up to date: run `worker migrate`\n", "jobs: not started yet\n"} {
		if status != http.StatusServiceUnavailable || !strings.Contains(text, line) {
			t.Errorf("/readyz = %d %q, want 503 and %q", status, text, line)
		}
	}
	if status, _ := running.get(t, "/", login("river")); status != http.StatusServiceUnavailable {
		t.Errorf("the status page answers %d", status)
	}
	if status, _ := running.get(t, "/river/", login("river")); status != http.StatusServiceUnavailable {
		t.Errorf("River UI answers %d", status)
	}

	w.run(t, "migrate").want(t, 0, "schema leadgrid is at version")
	eventually.True(t, "the worker to be ready", func() bool { status, _ := running.get(t, "/readyz"); return status == http.StatusOK })
	if n := strings.Count(running.logged(), "run `worker migrate`"); n != 1 {
		t.Errorf("it said %d times what it waited for, want once:\n%s", n, running.logged())
	}
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, equal)
}

func TestRunStopsWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.env["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/none"
	running := w.start(t)
	eventually.True(t, "the worker to say what it waits for", func() bool { return strings.Contains(running.logged(), "waiting for the database") })
	if status, text := running.get(t, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz = %d %s", status, text)
	}
	if code := running.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d:\n%s", code, running.logged())
	}
}

func login(password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth("admin", password) }
}

func TestAdminPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	open := w.start(t)
	w.env["ADMIN_PASSWORD"] = "river"
	guarded := w.start(t)
	for _, running := range []*running{open, guarded} {
		eventually.True(t, "the worker to be ready", func() bool { status, _ := running.get(t, "/readyz"); return status == http.StatusOK })
	}
	crossSite := func(r *http.Request) {
		login("river")(r)
		r.Method = http.MethodPost
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	for _, c := range []struct {
		name    string
		running *running
		path    string
		change  func(*http.Request)
		status  int
		has     string
	}{
		{"no status page without a password", open, "/", nil, http.StatusOK, "Set ADMIN_PASSWORD"},
		{"status page", guarded, "/", login("river"), http.StatusOK, "never read whole"},
		{"not for everybody", guarded, "/", nil, http.StatusUnauthorized, ""},
		{"metrics", open, "/metrics", nil, http.StatusOK, "leadgrid_build_info"},
		{"no River UI without a password", open, "/river/", nil, http.StatusNotFound, ""},
		{"nor its API", open, "/river/api/jobs?state=available", login(""), http.StatusNotFound, ""},
		{"River UI", guarded, "/river/", login("river"), http.StatusOK, "<html"},
		{"its API", guarded, "/river/api/states", login("river"), http.StatusOK, "available"},
		{"not for everybody", guarded, "/river/", nil, http.StatusUnauthorized, ""},
		{"nor its API", guarded, "/river/api/states", nil, http.StatusUnauthorized, ""},
		{"nor with a wrong password", guarded, "/river/api/states", login("lake"), http.StatusUnauthorized, ""},
		{"nor for other sites", guarded, "/river/api/jobs/cancel", crossSite, http.StatusForbidden, ""},
	} {
		changes := []func(*http.Request){}
		if c.change != nil {
			changes = append(changes, c.change)
		}
		if status, text := c.running.get(t, c.path, changes...); status != c.status || !strings.Contains(text, c.has) {
			t.Errorf("%s: %s = %d, want %d with %q:\n%.500s", c.name, c.path, status, c.status, c.has, text)
		}
	}
}

// A worker that is told to end in the middle of a sweep does so in time, and the next one goes on from there.
func TestPromise13_StoppedInASweep(t *testing.T) {
	t.Parallel()
	slow := leadgridtest.Settings{Faults: leadgridtest.Faults{Slow: 1, SlowFor: 700 * time.Millisecond}}
	w := newWorld(t, leadgridtest.Options{Settings: slow})
	w.Seed(leadgridtest.Size{Dossiers: 400, Contacts: 20, Links: 100, Notes: 100})
	running := w.start(t)
	w.run(t, "sync").want(t, 0, "sweep 1 is asked for")
	w.waitForRequests(t, 1, 100)
	began := time.Now()
	if code := running.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d:\n%s", code, running.logged())
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	w.run(t, "status").want(t, 0, "full, running since")
	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	w.start(t)
	w.waitForSweep(t, 1, "done")
	w.wantEqual(t)
	if n := w.requests(t, 1); n > 1000 { // 400 of them twice, and the lists
		t.Errorf("the sweep took %d requests: it began anew", n)
	}
}
