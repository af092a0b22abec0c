// Package postgres starts a Postgres server of its own for the demo and for tests: as root or as an ordinary user,
// offline, without a port, and without leaving a server or a file behind, even after kill -9 of the program.
//
// It runs the binaries that the machine has (see [Options.Bin]). Between the program and the server stands a shell as a
// watchdog (watchdog.sh): when the program is gone, the pipe between them ends, and the watchdog stops the server.
package postgres

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options say what kind of server to start. The zero value is for tests: in memory where there is room, without
// fsync, gone after Stop.
type Options struct {
	// Durable keeps the data on disk with fsync on, as a real server does.
	Durable bool
	// Dir keeps the data in this folder from Stop to the next Start; it implies Durable. The server's account must be able
	// to reach it: started by root, that is "postgres" or "nobody".
	Dir string
	// Bin is the folder with the server's programs. Without it they are looked for in POSTGRES_BIN, PATH, pg_config's folder
	// and the usual folders of Debian, Red Hat and Homebrew, and finally downloaded.
	Bin string
	// Config holds more settings of the server, by name.
	Config map[string]string
}

// Server is a running Postgres. Its methods may be called from several goroutines.
type Server struct {
	bin     string
	account *account // that the server runs as, nil for our own
	run     string   // socket and log, and the data unless it is kept
	data    string
	durable bool
	keep    bool // the data outlives the server
	config  []string

	mu    sync.Mutex
	child *child // nil once stopped
}

// port is only part of the socket's name. It is in every URL because pgx would otherwise obey a stray PGPORT.
const port = "5432"

const (
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// Start makes a database cluster, unless [Options.Dir] already holds one, and returns once the server answers.
// The context bounds the start alone.
func Start(ctx context.Context, opts Options) (*Server, error) {
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, opts.Bin, account)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, account: account, keep: opts.Dir != "", durable: opts.Durable || opts.Dir != ""}
	s.run = runFolder(s.durable, account)
	s.data = filepath.Join(s.run, "data")
	if s.keep {
		if s.data, err = keptFolder(opts.Dir, account); err != nil {
			return nil, err
		}
	}
	s.config = settings(s.run, s.durable, opts.Config)
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// settings returns the server's arguments. synchronous_commit stays on even without fsync, so that commits survive kill -9
// of the server: the machine's cache keeps them.
func settings(run string, durable bool, more map[string]string) []string {
	config := map[string]string{
		"listen_addresses":        "",
		"port":                    port,
		"unix_socket_directories": run,
		"unix_socket_permissions": "0700",
		"max_connections":         "300",
		"log_min_messages":        "warning",
		"log_timezone":            "UTC",
		"timezone":                "UTC",
		"logging_collector":       "off",
	}
	if !durable {
		config["fsync"] = "off"
		config["full_page_writes"] = "off"
		// An autovacuum worker in a template would block CREATE DATABASE, and test databases do not live long.
		config["autovacuum"] = "off"
		config["jit"] = "off"
		// In the data folder, and so removed with it even after Kill; the default leaves a file in /dev/shm.
		config["dynamic_shared_memory_type"] = "mmap"
	}
	maps.Copy(config, more)
	args := make([]string, 0, len(config))
	for name, value := range config {
		args = append(args, "--"+name+"="+value)
	}
	slices.Sort(args)
	return args
}

// URL is the address of a database on this server, for pgx or as DATABASE_URL. It stays the same over Restart.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/" + database,
		RawQuery: url.Values{"host": {s.run}, "port": {port}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

// Stop ends the server and removes its files, except those that [Options.Dir] keeps. Stopping twice does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.end(s.shutdown())
	return errors.Join(err, os.RemoveAll(s.run))
}

// Kill ends the server as kill -9 does: no checkpoint, connections cut. The data stays for Restart.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end("KILL")
}

// Restart starts the server again with the same data and URL. After Kill it recovers; a running server is stopped first.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.end("INT"); err != nil {
		return err
	}
	return s.start(ctx)
}

// shutdown returns the signal to stop with: data that is thrown away needs no checkpoint.
func (s *Server) shutdown() string {
	if s.keep {
		return "INT"
	}
	return "QUIT"
}

func (s *Server) end(signal string) error {
	if s.child == nil {
		return nil
	}
	child := s.child
	s.child = nil
	return child.end(signal)
}

//go:embed watchdog.sh
var watchdog string

// child is the watchdog and, below it, the server.
type child struct {
	orders io.WriteCloser // the watchdog obeys one line, and takes end of file for our death
	server chan struct{}  // closed when the server and all its backends are gone
	exited chan struct{}  // closed when the watchdog has ended
	pid    int
}

func (s *Server) start(ctx context.Context) (err error) {
	// Each living process holds the writing end: initdb, the server, its backends.
	alive, held, err := os.Pipe()
	if err != nil {
		return err
	}
	initOption := "--no-sync"
	if s.durable {
		initOption = "--data-checksums"
	}
	// Not exec.CommandContext: the server outlives the context that bounds its start.
	cmd := exec.Command("/bin/sh", append([]string{"-c", watchdog, "watchdog", s.bin, s.run, s.data, initOption}, s.config...)...)
	cmd.Dir = "/" // ours may be closed to the server's account
	cmd.Env = childEnv(os.Environ())
	cmd.ExtraFiles = []*os.File{held}
	// A group of its own, or Ctrl-C would stop the server before the program has drained.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.account.credential()}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	orders, err := cmd.StdinPipe()
	if err != nil {
		return errors.Join(err, alive.Close(), held.Close())
	}
	err = cmd.Start()
	held.Close()
	if err != nil {
		return errors.Join(fmt.Errorf("start Postgres: %w", err), alive.Close())
	}
	c := &child{orders: orders, server: make(chan struct{}), exited: make(chan struct{}), pid: cmd.Process.Pid}
	go func() {
		_, _ = io.Copy(io.Discard, alive)
		alive.Close()
		close(c.server)
	}()
	go func() {
		_ = cmd.Wait() // if it failed, the complaint says why
		close(c.exited)
	}()

	if err := s.await(ctx, c); err != nil {
		err = fmt.Errorf("start Postgres (%s): %w%s", s.bin, err, s.logTail())
		_ = orders.Close() // the watchdog cleans up
		<-c.exited
		if complaint.Len() > 0 {
			err = fmt.Errorf("%w\n%s", err, bytes.TrimSpace(complaint.Bytes()))
		}
		return err
	}
	s.child = c
	return nil
}

// await returns once the server takes connections.
func (s *Server) await(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	config, err := pgx.ParseConfig(s.URL("postgres"))
	if err != nil { // not the URL's fault: pgx also reads the environment
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.server:
			return errors.New("it ended at once")
		case <-tick.C:
		}
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return conn.Close(ctx)
		}
	}
}

// logTail returns the end of the server's log, for an error message.
func (s *Server) logTail() string {
	log, err := os.ReadFile(filepath.Join(s.run, "log"))
	if err != nil || len(log) == 0 {
		return ""
	}
	const enough = 2000
	return "\n" + strings.TrimSpace(string(log[max(0, len(log)-enough):]))
}

// end makes the watchdog send the server a signal, and returns when all of its processes are gone.
func (c *child) end(signal string) error {
	_, err := io.WriteString(c.orders, signal+"\n")
	_ = c.orders.Close()
	deadline := time.After(stopTimeout)
	for _, gone := range []<-chan struct{}{c.server, c.exited} {
		select {
		case <-gone:
		case <-deadline:
			killErr := syscall.Kill(-c.pid, syscall.SIGKILL)
			return errors.Join(fmt.Errorf("Postgres did not stop within %v and was killed", stopTimeout), err, killErr)
		}
	}
	return nil
}

// childEnv returns our environment without the variables that would influence the server or initdb.
func childEnv(environ []string) []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "LANGUAGE" || name == "TZ" {
			continue
		}
		env = append(env, entry)
	}
	return env
}
