package main

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// programs is the folder of the demo and what it starts, built as `make demo` does.
var programs = sync.OnceValues(func() (string, error) {
	output, err := exec.Command("go", "build", "-o", folder+"/", "../../receiver", "../../worker", ".").CombinedOutput()
	if err != nil {
		os.Stderr.Write(output)
	}
	return folder, err
})

var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "demo-test"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// show is a demo under way.
type show struct {
	*exec.Cmd
	temporary string

	mu   sync.Mutex
	text bytes.Buffer
}

func (s *show) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *show) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func start(t *testing.T, env ...string) *show {
	t.Helper()
	programs, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s := &show{Cmd: exec.Command(filepath.Join(programs, "demo")), temporary: t.TempDir()}
	s.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + s.temporary}, env...)
	s.Stdout, s.Stderr = s, s
	s.WaitDelay = 10 * time.Second // or a program left behind, which holds our pipe, would hang the test
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Process.Kill() })
	return s
}

// waitFor waits until the demo has said something.
func (s *show) waitFor(t *testing.T, text string) {
	t.Helper()
	eventually.True(t, fmt.Sprintf("the demo to say %q", text), func() bool { return strings.Contains(s.said(), text) }, s.said)
}

// wantNothingLeft looks for files, and for somebody who still listens.
func (s *show) wantNothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(s.temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	for _, match := range regexp.MustCompile(`host=([^&"]+)`).FindAllStringSubmatch(s.said(), -1) {
		socket, err := url.QueryUnescape(match[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("Postgres has left %s: %v", socket, err)
		}
	}
	if left := s.listening(); len(left) > 0 {
		t.Errorf("somebody still listens on %v", left)
	}
}

// listening are the addresses the demo named that still answer.
func (s *show) listening() (addresses []string) {
	for _, address := range regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(s.said(), -1) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			addresses = append(addresses, address)
		}
	}
	return addresses
}

func TestDemoEndsByItself(t *testing.T) {
	t.Parallel()
	s := start(t, "DEMO_SECONDS=6")
	if err := s.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, s.said())
	}
	for _, want := range []string{
		"the mirror is equal", "equal field for field", " later\n", "Nieuwe klanten", "no process and no file is left",
	} {
		if !strings.Contains(s.said(), want) {
			t.Errorf("the demo did not say %q:\n%s", want, s.said())
		}
	}
	s.wantNothingLeft(t)
}

func TestDemoIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]string{"in the backfill": "links: ", "while it is starting": "LeadGrid "} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.waitFor(t, after)
			s.interrupt(t, exitInterrupted)
		})
	}
}

// A LeadGrid of which the demo has only the key, and a database that stays.
func TestDemoOfARealLeadGrid(t *testing.T) {
	t.Parallel()
	leadgrid := leadgridtest.New(leadgridtest.Options{})
	defer leadgrid.Close()
	leadgrid.Seed(leadgridtest.Size{Dossiers: 20, Contacts: 30, Links: 20, Notes: 40})
	url := pgtest.URL(t)
	s := start(t, "LEADGRID_API_KEY="+leadgrid.Key(), "LEADGRID_BASE_URL="+leadgrid.URL(), "DATABASE_URL="+url)
	s.waitFor(t, "Change something in LeadGrid")
	differences, err := oracle.Differences(t.Context(), pgtest.Open(t, url), oracle.Truth(leadgrid.Snapshot()), oracle.Options{})
	if err != nil || len(differences) > 0 {
		t.Errorf("the mirror differs: %v %v", differences, err)
	}
	s.interrupt(t, 0)
}

// interrupt is Ctrl-C.
func (s *show) interrupt(t *testing.T, code int) {
	t.Helper()
	if err := s.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait()
	if got := s.ProcessState.ExitCode(); got != code {
		t.Errorf("it ended with %d, want %d:\n%s", got, code, s.said())
	}
	s.wantNothingLeft(t)
}

// What cannot be tidied up after kill -9 are the logs.
func TestDemoIsKilled(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.waitFor(t, "links: ")
	if err := s.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait() // returns when the last program has let go of our pipe
	eventually.True(t, "everybody to stop listening", func() bool { return len(s.listening()) == 0 })
}

func TestDemoWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := start(t, "DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "DEMO_SECONDS=1")
	_ = s.Wait()
	if code := s.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.said(), "the database of DATABASE_URL cannot be used") {
		t.Errorf("it ended with %d:\n%s", code, s.said())
	}
	s.wantNothingLeft(t)
}

// LeadGrid tells nobody when a dossier is removed: the mirror shows it until a sweep, and the demo must not choose it.
func TestDemoChangesWhatIsStillThere(t *testing.T) {
	t.Parallel()
	d := &demo{leadgrid: leadgridtest.New(leadgridtest.Options{}), pool: pgtest.New(t)}
	defer d.leadgrid.Close()
	d.leadgrid.Seed(leadgridtest.Size{Dossiers: 1})
	there := slices.Collect(maps.Keys(d.leadgrid.Snapshot()["dossiers"]))[0]
	stage := d.leadgrid.Snapshot()["dossiers"][there]["current_stage_id"]
	_, err := d.pool.Exec(t.Context(), `
		WITH stage AS (INSERT INTO stages (id, flow_id, name, position) VALUES ('first', 'flow', 'First', 1), ($2, 'flow', 'Second', 2))
		INSERT INTO dossiers (id, status, current_stage_id, _changed_at) VALUES ('removed', 'active', 'first', '2026-01-01'), ($1, 'active', 'first', now())`,
		there, stage)
	if err != nil {
		t.Fatal(err)
	}
	if m, _, err := d.move(t.Context()); err != nil || m.dossier != there {
		t.Errorf("it moved %q, %v, want %q", m.dossier, err, there)
	}
}
