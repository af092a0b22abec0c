package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// binary is the program as users have it, built by whichever test asks first.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(folder, "worker")
	output, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		err = errors.New(string(output))
	}
	return path, err
})

var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "worker-test"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// world is a LeadGrid, a database, and what the program is told about both.
type world struct {
	*leadgridtest.Server
	pool *pgxpool.Pool
	env  map[string]string
}

func newWorld(t testing.TB, options leadgridtest.Options) *world {
	t.Helper()
	url := pgtest.URL(t)
	w := &world{Server: leadgridtest.New(options), pool: pgtest.Open(t, url)}
	t.Cleanup(w.Close)
	w.env = map[string]string{
		"DATABASE_URL": url, "LEADGRID_BASE_URL": w.URL(), "LEADGRID_API_KEY": w.Key(), "LEADGRID_LAG": "50ms",
		"ADMIN_ADDR": "127.0.0.1:0", "LOG_FORMAT": "json", "SWEEP_INTERVAL": "off",
	}
	return w
}

var small = leadgridtest.Size{Dossiers: 60, Contacts: 80, Links: 70, Notes: 150}

func (w *world) wantEqual(t *testing.T, tables ...string) {
	t.Helper()
	differences, err := oracle.Differences(t.Context(), w.pool, oracle.Truth(w.Snapshot()), oracle.Options{Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range differences {
		t.Error(difference)
	}
}

// command is the program with these arguments, in an environment that holds nothing else.
func (w *world) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	for name, value := range w.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// ending is how the program ended.
type ending struct {
	code      int
	out, errs string
}

// run runs the program to its end, which must come within two minutes.
func (w *world) run(t *testing.T, args ...string) ending {
	t.Helper()
	cmd := w.command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // the exit code says it
	return ending{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// want fails the test unless the program ended with this code, and said this.
func (e ending) want(t *testing.T, code int, text string) {
	t.Helper()
	if e.code != code || !strings.Contains(e.out+e.errs, text) {
		t.Errorf("it ended with %d, want %d and %q; it said:\n%s%s", e.code, code, text, e.out, e.errs)
	}
}

// running is the program at work.
type running struct {
	*exec.Cmd
	admin  string // where its admin server is
	exited chan struct{}

	mu   sync.Mutex
	logs strings.Builder
}

// start starts `worker run` and returns once it says where it listens. When the test ends, so does it, and well.
func (w *world) start(t testing.TB) *running {
	t.Helper()
	r := &running{Cmd: w.command(t, "run"), exited: make(chan struct{})}
	logs, err := r.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		defer close(r.exited)
		lines := bufio.NewScanner(logs)
		for lines.Scan() {
			r.mu.Lock()
			r.logs.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
			var line struct{ Msg, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				listening <- line.Admin
			}
		}
		_ = r.Wait()
	}()
	t.Cleanup(func() {
		if code := r.stop(t, syscall.SIGTERM); code != 0 && code != -1 {
			t.Errorf("worker run ended with %d:\n%s", code, r.logged())
		}
	})
	select {
	case r.admin = <-listening:
	case <-r.exited:
		t.Fatalf("worker run ended at once:\n%s", r.logged())
	}
	return r
}

func (r *running) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.String()
}

// stop sends a signal and returns the exit code: -1 if it was killed.
func (r *running) stop(t testing.TB, signal syscall.Signal) int {
	t.Helper()
	_ = r.Process.Signal(signal) // it may have ended
	select {
	case <-r.exited:
	case <-time.After(time.Minute):
		_ = r.Process.Kill()
		t.Errorf("worker run did not end after %v:\n%s", signal, r.logged())
		<-r.exited
	}
	return r.ProcessState.ExitCode()
}

// get reads a page of the admin server.
func (r *running) get(t *testing.T, path string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(request)
	}
	return send(t, request)
}

func send(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// requests is how many a sweep has sent, as far as it has saved that.
func (w *world) requests(t *testing.T, sweep int64) (n int) {
	t.Helper()
	err := w.pool.QueryRow(t.Context(), `SELECT coalesce(sum(requests), 0) FROM sync_sweeps WHERE id = $1`, sweep).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) waitForRequests(t *testing.T, sweep int64, n int) {
	t.Helper()
	eventually.True(t, "the sweep to get going", func() bool { return w.requests(t, sweep) >= n })
}

func (w *world) waitForSweep(t *testing.T, id int64, state string) {
	t.Helper()
	eventually.True(t, "the sweep to be "+state, func() bool {
		var now string
		if err := w.pool.QueryRow(t.Context(), `SELECT state FROM sync_sweeps WHERE id = $1`, id).Scan(&now); err != nil {
			t.Fatal(err)
		}
		return now == state
	})
}
