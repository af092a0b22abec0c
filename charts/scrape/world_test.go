//go:build scrape

package scrape_test

import (
	"bufio"
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
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

const root = "../.."

// find waits until a program has printed what matches, and returns its first group.
func find(t *testing.T, out *tool.Output, pattern string) string {
	t.Helper()
	var match []string
	tool.Eventually(t,
		func() bool { match = regexp.MustCompile(pattern).FindStringSubmatch(out.String()); return match != nil },
		func() string { return fmt.Sprintf("nothing that matches %s in\n%s", pattern, out) })
	return match[1]
}

// demo is `make demo`.
type demo struct {
	out              *tool.Output
	bin              string // where its programs are
	receiver, worker string // their ADMIN_ADDR
}

func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{bin: t.TempDir()}
	tool.Build(t, d.bin, "./cmd/receiver", "./cmd/worker", "./cmd/sandbox/demo")
	logs := t.TempDir()
	d.out = tool.Start(t, []string{"TMPDIR=" + logs}, filepath.Join(d.bin, "demo"))
	for name, admin := range map[string]*string{"receiver": &d.receiver, "worker": &d.worker} {
		tool.Eventually(t,
			func() bool {
				*admin = listening(filepath.Join(logs, "leadgrid-demo-*", name+".log"))
				return *admin != ""
			},
			func() string { return "the " + name + " does not listen:\n" + d.out.String() })
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
	database := find(t, d.out, `psql "([^"]+)"`)
	leadgrid, webhooks := find(t, d.out, `at (http://\S+);`), find(t, d.out, `receiver +(http://\S+)`)
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
