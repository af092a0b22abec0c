package crash_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

const (
	lag    = 200 * time.Millisecond
	secret = "whsec-of-a-test"
)

// world is a LeadGrid, a Postgres that keeps its promises (fsync on), and the two programs as users have them.
type world struct {
	*leadgridtest.Server
	postgres         *postgres.Server
	pool             *pgxpool.Pool
	folder           string
	env              map[string]string
	receiver, worker *program
}

// newWorld starts everything. Route, if not nil, may lead the programs to LeadGrid and Postgres another way.
func newWorld(t *testing.T, seed uint64, route func(w *world)) *world {
	t.Helper()
	w := &world{folder: t.TempDir()}
	build := exec.Command("go", "build", "-o", w.folder, "../../cmd/receiver", "../../cmd/worker")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	var err error
	if w.postgres, err = postgres.Start(t.Context(), postgres.Options{Durable: true, Config: map[string]string{
		"wal_writer_delay": "10s", // so that a crash takes back what was committed without waiting for the disk
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.postgres.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.Server = leadgridtest.New(options(seed))
	t.Cleanup(w.Close)
	w.Seed(size)
	listen := address(t)
	w.env = map[string]string{
		"DATABASE_URL": w.postgres.URL("postgres"), "LEADGRID_BASE_URL": w.URL(), "LEADGRID_API_KEY": w.Key(),
		"LEADGRID_WEBHOOK_SECRET": secret, "LISTEN_ADDR": listen, "LEADGRID_LAG": lag.String(), "SWEEP_INTERVAL": "off",
		"LOG_FORMAT": "json", "LOG_LEVEL": "warn", "ADMIN_ADDR": "127.0.0.1:0",
	}
	if output, code := w.run(t, "worker", "migrate"); code != 0 {
		t.Fatalf("worker migrate ended with %d: %s", code, output)
	}
	config, err := pgxpool.ParseConfig(w.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = "leadgrid"
	// A killed server leaves dead connections in the pool: each use gets a new one.
	config.AfterRelease = func(*pgx.Conn) bool { return false }
	if w.pool, err = pgxpool.NewWithConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	w.receiver = &program{world: w, name: "receiver", admin: address(t)}
	w.worker = &program{world: w, name: "worker", args: []string{"run"}, admin: address(t)}
	if route != nil {
		route(w)
	}
	t.Cleanup(func() { w.receiver.kill(); w.worker.kill() })
	w.receiver.start(t)
	w.worker.start(t)
	w.receiver.awaitReady(t)
	w.worker.awaitReady(t)
	w.RegisterWebhook("http://"+listen+"/webhooks/leadgrid", secret)
	return w
}

// address is one that nobody listens on.
func address(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (w *world) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.folder, name), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.folder}
	for name, value := range w.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run runs a program to its end, which must come within three minutes.
func (w *world) run(t *testing.T, name string, args ...string) (output string, code int) {
	t.Helper()
	cmd := w.command(name, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // the exit code says it
	return said.String(), cmd.ProcessState.ExitCode()
}

// program is one that is started again and again.
type program struct {
	*world
	name  string
	args  []string
	admin string
	route []string // settings of its own

	cmd    *exec.Cmd
	exited chan struct{}
	said   *output
}

// output is what a program wrote, for when something goes wrong.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := o.text.Bytes()
	return string(text[max(0, len(text)-2000):])
}

// start starts the program unless it runs.
func (p *program) start(t *testing.T) {
	t.Helper()
	if p.cmd != nil {
		select {
		case <-p.exited:
			t.Errorf("the %s ended by itself: %s", p.name, p.said)
		default:
			return
		}
	}
	p.cmd, p.exited, p.said = p.command(p.name, p.args...), make(chan struct{}), new(output)
	p.cmd.Env = append(append(p.cmd.Env, "ADMIN_ADDR="+p.admin), p.route...)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(p.cmd, p.exited)
}

// kill is kill -9.
func (p *program) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
}

func (p *program) awaitReady(t *testing.T) {
	t.Helper()
	eventually.True(t, "the "+p.name+" to be ready", func() bool {
		response, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, p.said.String)
}

func (w *world) exec(t *testing.T, sql string) {
	t.Helper()
	eventually.True(t, "the database", func() bool {
		_, err := w.pool.Exec(t.Context(), sql)
		var refused interface{ SQLState() string }
		if errors.As(err, &refused) && refused.SQLState() != "57P03" && refused.SQLState() != "57P01" {
			t.Fatal(err)
		}
		return err == nil
	}, func() string { return "it does not answer" })
}

func (w *world) set(t *testing.T, sql string) map[string]bool {
	t.Helper()
	rows, err := w.pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	set := make(map[string]bool, len(all))
	for _, one := range all {
		set[one] = true
	}
	return set
}
