//go:build scrape

package scrape_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const root = "../.."

// patience is for machines that are slow and have other things to do.
const patience = 8 * time.Minute

// eventually waits for a condition for as long as the program runs; say tells what is missing when that was in vain.
func eventually(t *testing.T, p *program, condition func() bool, say func() string) {
	t.Helper()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-deadline:
			t.Fatal(say())
		case <-p.ended:
			t.Fatalf("%s has ended by itself", p.name)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// program is a process that is told to end, and waited for, when the test is over.
type program struct {
	name  string
	ended chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(text)
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func start(t *testing.T, env []string, path string, args ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(path), ended: make(chan struct{})}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p, p
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		<-p.ended
		if t.Failed() {
			t.Logf("%s said last:\n%s", p.name, p.said()[max(0, len(p.said())-4000):])
		}
	})
	return p
}

// find waits until the program has said what matches, and returns its first group.
func (p *program) find(t *testing.T, pattern string) string {
	t.Helper()
	var match []string
	eventually(t, p,
		func() bool { match = regexp.MustCompile(pattern).FindStringSubmatch(p.said()); return match != nil },
		func() string { return fmt.Sprintf("it never said %s:\n%s", pattern, p.said()) })
	return match[1]
}

// demo is `make demo`.
type demo struct {
	*program
	bin              string // where its programs are
	receiver, worker string // their ADMIN_ADDR
}

func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{bin: t.TempDir()}
	build := exec.Command("go", "build", "-o", d.bin+"/", "./cmd/receiver", "./cmd/worker", "./cmd/sandbox/demo")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	logs := t.TempDir()
	d.program = start(t, []string{"TMPDIR=" + logs}, filepath.Join(d.bin, "demo"))
	for name, admin := range map[string]*string{"receiver": &d.receiver, "worker": &d.worker} {
		eventually(t, d.program,
			func() bool {
				*admin = listening(filepath.Join(logs, "leadgrid-demo-*", name+".log"))
				return *admin != ""
			},
			func() string { return "the " + name + " does not listen:\n" + d.said() })
	}
	return d
}

// listening finds in a log where a program's metrics are.
func listening(pattern string) string {
	paths, _ := filepath.Glob(pattern)
	for _, path := range paths {
		log, err := os.Open(path)
		if err != nil {
			return ""
		}
		defer log.Close()
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct{ Msg, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				return line.Admin
			}
		}
	}
	return ""
}

// workload adds to the demo's people at work what dashboards also show: commands that write back, a stranger's webhook, and
// now and then a full sweep. It goes on until the test ends.
func (d *demo) workload(t *testing.T) {
	t.Helper()
	database := d.find(t, `psql "([^"]+)"`)
	leadgrid, webhooks := d.find(t, `at (http://\S+);`), d.find(t, `receiver +(http://\S+)`)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for every := time.Tick(time.Second); ctx.Err() == nil; <-every {
			_, err := conn.Exec(ctx, `SELECT leadgrid.add_note(id, 'called') FROM leadgrid.dossiers
				WHERE status = 'active' AND _deleted_at IS NULL ORDER BY random() LIMIT 1`)
			if err != nil && ctx.Err() == nil {
				t.Errorf("write back: %v", err)
				return
			}
			if response, err := http.Post(webhooks, "application/json", strings.NewReader("{}")); err == nil {
				response.Body.Close()
			}
		}
	})
	working.Go(func() {
		for every := time.Tick(30 * time.Second); ctx.Err() == nil; <-every {
			sync := exec.CommandContext(ctx, filepath.Join(d.bin, "worker"), "sync", "--wait")
			sync.Env = append(os.Environ(), "DATABASE_URL="+database, "LEADGRID_BASE_URL="+leadgrid, "LEADGRID_API_KEY=lg_live_demo", "LEADGRID_LAG=1s")
			if out, err := sync.CombinedOutput(); err != nil && ctx.Err() == nil {
				t.Errorf("worker sync: %v\n%s", err, out[max(0, len(out)-2000):])
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		working.Wait()
		conn.Close(context.Background())
	})
}
