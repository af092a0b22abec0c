package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
)

// helperVariable makes the test binary a program that starts a server and then comes to a bad end.
const helperVariable = "POSTGRES_TEST_HELPER"

func TestMain(m *testing.M) {
	if end := os.Getenv(helperVariable); end != "" {
		helper(end)
	}
	os.Exit(m.Run())
}

func helper(end string) {
	if end == "killed while starting" {
		fmt.Println("starting")
	}
	s, err := postgres.Start(context.Background(), postgres.Options{Durable: true})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(s.URL("postgres"))
	if end == "panic" {
		panic("as asked")
	}
	select {}
}

func TestStartAndStop(t *testing.T) {
	t.Setenv("PGPORT", "1") // the environment must not lead anybody astray
	t.Setenv("PGHOST", "/nowhere")
	t.Setenv("PGDATA", "/nowhere")
	t.Setenv("LC_ALL", "xx_XX.UTF-8")
	s := start(t, postgres.Options{})
	if got := ask(t, s, "SHOW fsync"); got != "off" {
		t.Errorf("fsync = %s, want off for a throwaway server", got)
	}
	if got := ask(t, s, "SHOW listen_addresses"); got != "" {
		t.Errorf("listens on TCP: %q", got)
	}
	run, pid := folder(t, s.URL("postgres")), serverPID(t, s)
	if info, err := os.Stat(run); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder of the socket: %v, %v, want mode 0700", info, err)
	}
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatalf("Stop: %v", err)
		}
	}
	if _, err := os.Stat(run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	wantEnded(t, pid)
}

func TestKillLosesNothingCommitted(t *testing.T) {
	s := start(t, postgres.Options{})
	before, pid := s.URL("postgres"), serverPID(t, s)
	ask(t, s, "CREATE TABLE kept (n int)")
	ask(t, s, "INSERT INTO kept VALUES (1) RETURNING n")
	conn := connect(t, s)
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO kept VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatalf("Kill: %v", err)
	}
	wantEnded(t, pid)
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection survived Kill")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if s.URL("postgres") != before {
		t.Error("the URL changed over Restart")
	}
	if got := ask(t, s, "SELECT string_agg(n::text, ',') FROM kept"); got != "1" {
		t.Errorf("rows after the crash: %s, want 1", got)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("Restart of a running server: %v", err)
	}
	if got := ask(t, s, "SELECT string_agg(n::text, ',') FROM kept"); got != "1" {
		t.Errorf("rows after Restart: %s, want 1", got)
	}
}

func TestDirKeepsTheData(t *testing.T) {
	opts := postgres.Options{Dir: filepath.Join(openFolder(t), "kept"), Config: map[string]string{"work_mem": "5MB"}}
	first := start(t, opts)
	for name, want := range map[string]string{"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "work_mem": "5MB"} {
		if got := ask(t, first, "SHOW "+name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	ask(t, first, "CREATE TABLE kept (n int)")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, opts)
	if got := ask(t, second, "SELECT to_regclass('kept')::text"); got != "kept" {
		t.Errorf("to_regclass = %q, want the table of the first server", got)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	_, err := postgres.Start(t.Context(), postgres.Options{Config: map[string]string{"work_mem": "a lot"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "work_mem"`) {
		t.Errorf("Start = %v, want the server's own words", err)
	}
	_, err = postgres.Start(t.Context(), postgres.Options{Bin: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "no Postgres server in") {
		t.Errorf("Start = %v, want that there are no programs", err)
	}
}

// However the program ends, neither a server nor a file may stay.
func TestNothingStaysBehind(t *testing.T) {
	kill := func(cmd *exec.Cmd) error { return cmd.Process.Kill() }
	for end, finish := range map[string]func(*exec.Cmd) error{
		"killed":                kill,
		"killed while starting": kill,
		"terminated":            func(cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGTERM) },
		"Ctrl-C":                func(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }, // to the whole group
		"panic":                 func(*exec.Cmd) error { return nil },
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			tmp := openFolder(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), helperVariable+"="+end, "TMPDIR="+tmp)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || strings.HasPrefix(lines.Text(), "failed") {
				t.Fatalf("the helper said %q, %v", lines.Text(), lines.Err())
			}
			eventually.True(t, "the server's first file", func() bool { return len(entries(t, tmp)) > 0 })
			if !processWith(t, tmp) {
				t.Error("no process has the folder among its arguments: this test would not see one that stays")
			}
			if err := finish(cmd); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually.True(t, "the files to go", func() bool { return len(entries(t, tmp)) == 0 })
			eventually.True(t, "the processes to end", func() bool { return !processWith(t, tmp) })
			if left := entries(t, tmp); len(left) > 0 {
				t.Errorf("made again: %v", left)
			}
		})
	}
}

// openFolder is one that any account may make folders in, like /tmp, with a short name for the socket's sake. It lies in
// memory where that can be: fsync takes no time there.
func openFolder(t *testing.T) string {
	t.Helper()
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return dir
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func processWith(t *testing.T, argument string) bool {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "args").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(out), argument)
}

func start(t *testing.T, opts postgres.Options) *postgres.Server {
	t.Helper()
	s, err := postgres.Start(t.Context(), opts)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

func connect(t *testing.T, s *postgres.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// ask runs a statement and returns its only value as text, "" if there is none.
func ask(t *testing.T, s *postgres.Server, sql string) (answer string) {
	t.Helper()
	conn := connect(t, s)
	defer conn.Close(t.Context())
	err := conn.QueryRow(t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&answer)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

func folder(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Query().Get("host") == "" {
		t.Fatalf("no folder in %q: %v", address, err)
	}
	return u.Query().Get("host")
}

func serverPID(t *testing.T, s *postgres.Server) int {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(folder(t, s.URL("postgres")), "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func wantEnded(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the server still runs: %v", err)
	}
}
