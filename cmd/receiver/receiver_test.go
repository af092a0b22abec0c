package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

func TestPromise2_Hostile20_SecretsRotateWithoutARestart(t *testing.T) {
	url := pgtest.URL(t)
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "whsec_old,whsec_new\n")
	for name, value := range map[string]string{
		"DATABASE_URL": url, "LEADGRID_WEBHOOK_SECRET_FILE": path, "LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0",
	} {
		t.Setenv(name, value)
	}
	config, err := loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	receiver := startReceiver(t, config)
	n := 0
	answer := func(secret string) int {
		n++
		body := event(fmt.Sprintf("evt_20_%d", n))
		response, err := receiver.send(t.Context(), http.MethodPost, webhooksPath, body,
			leadgridapi.SignatureHeader, leadgridapi.Sign(secret, time.Now(), body))
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	for secret, want := range map[string]int{"whsec_old": 200, "whsec_new": 200, "whsec_older": 401, "whsec_old,whsec_new": 401} {
		if got := answer(secret); got != want {
			t.Errorf("signed with %s: status %d, want %d", secret, got, want)
		}
	}
	write(t, path, "whsec_new")
	eventually.True(t, "the old secret to be refused", func() bool { return answer("whsec_old") == http.StatusUnauthorized })
	if got := answer("whsec_new"); got != http.StatusOK {
		t.Errorf("after the rotation: status %d, want 200", got)
	}
}

func TestAMistakeInTheSecretsFileChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "whsec_new")
	t.Setenv("LEADGRID_WEBHOOK_SECRET_FILE", path)
	synctest.Test(t, func(t *testing.T) {
		var webhook settings.Webhook
		if err := settings.Load(&webhook); err != nil {
			t.Fatal(err)
		}
		secrets, err := newSecrets(webhook, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, mistake := range []string{"whsec_new,,", ",", ", ,whsec_other"} {
			write(t, path, mistake)
			time.Sleep(2 * time.Second) // the file is looked at once a second
			for secret, trusted := range map[string]bool{"whsec_new": true, "": false, " ": false, "whsec_other": false} {
				now := time.Now()
				err := secrets.verifier().Verify([]string{leadgridapi.Sign(secret, now, nil)}, nil, now)
				if (err == nil) != trusted {
					t.Errorf("file %q, signed with %q: %v", mistake, secret, err)
				}
			}
		}
		write(t, path, "whsec_newest")
		time.Sleep(2 * time.Second)
		now := time.Now()
		if err := secrets.verifier().Verify([]string{leadgridapi.Sign("whsec_newest", now, nil)}, nil, now); err != nil {
			t.Errorf("after the mistake was mended: %v", err)
		}
	})
}

func TestPromise2_Hostile21_AnEmptySecretRefusesToStart(t *testing.T) {
	for _, secret := range []string{"", " ", ",", "whsec_old,", "whsec_old,,whsec_new", ",whsec_new", "whsec_old, "} {
		t.Run(secret, func(t *testing.T) {
			t.Setenv("DATABASE_URL", "postgres://nowhere.invalid/db")
			t.Setenv("LEADGRID_WEBHOOK_SECRET", secret)
			t.Setenv("LISTEN_ADDR", "nowhere")
			_, err := loadConfig()
			if err == nil || !strings.Contains(err.Error(), "LEADGRID_WEBHOOK_SECRET") || !strings.Contains(err.Error(), "LISTEN_ADDR") {
				t.Errorf("settings with the secret %q and a bad address: %v, want both named", secret, err)
			}
			if err != nil && strings.Contains(err.Error(), "whsec") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestSecretsAreTakenAsTheyAre(t *testing.T) {
	const secret = " whsec_+/= "
	s, err := newSecrets(settings.Webhook{Secret: settings.NewSecret(secret + ",x"), Tolerance: time.Minute}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := s.verifier().Verify([]string{leadgridapi.Sign(secret, now, nil)}, nil, now); err != nil {
		t.Error(err)
	}
}

func TestPromise1_Hostile41_DatabaseDown(t *testing.T) {
	t.Parallel()
	server, err := postgres.Start(t.Context(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	config := testConfig(server.URL("postgres"))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}

	receiver := startReceiver(t, config) // it starts without a database
	refused := func(when string) {
		t.Helper()
		response := receiver.post(t, event("evt_41"))
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, Retry-After %q, want 503 with one", when, response.StatusCode, response.Header.Get("Retry-After"))
		}
		if err := receiver.ready(t); err == nil {
			t.Errorf("%s: ready", when)
		}
	}
	refused("started without a database")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused("without a schema")
	pool := pgtest.Open(t, server.URL("postgres"))
	if err := migrations.Up(t.Context(), pool.Config().ConnConfig, config.schemas()); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the receiver to be ready", func() bool { return receiver.ready(t) == nil })
	if response := receiver.post(t, event("evt_41")); response.StatusCode != http.StatusOK {
		t.Errorf("once it is there: status %d, want 200", response.StatusCode)
	}

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	refused("killed")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the receiver to be ready", func() bool { return receiver.ready(t) == nil })
	for _, id := range []string{"evt_41", "evt_41_later"} {
		if response := receiver.post(t, event(id)); response.StatusCode != http.StatusOK {
			t.Errorf("%s after the restart: status %d, want 200", id, response.StatusCode)
		}
	}
	checkStored(t, pool, []string{"evt_41", "evt_41_later"})
}

// All connections of the intake wait for a lock that nobody releases.
func TestPromise1_Hostile41_NoFreeConnectionInTime(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Open(t, url)
	receiver := startReceiver(t, testConfig(url))
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `LOCK TABLE webhook_events`); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			response := receiver.post(t, event(fmt.Sprintf("evt_41_%d", i)))
			if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
				t.Errorf("status %d, Retry-After %q, want 503 with one", response.StatusCode, response.Header.Get("Retry-After"))
			}
		})
	}
	all.Wait()
}

func TestPromise1And13_KilledReceiverHasStoredWhatItAcked(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Open(t, url)
	var acked []string
	for round := range 3 {
		process := startProcess(t, url)
		acked = append(acked, process.load(t, fmt.Sprintf("evt_kill_%d", round), 300*(1+round), func() {
			if err := process.Process.Kill(); err != nil {
				t.Error(err)
			}
		})...)
		process.Wait()
	}
	checkStored(t, pool, acked)
}

func TestPromise1And13_KilledPostgresHasStoredWhatWasAcked(t *testing.T) {
	t.Parallel()
	server, err := postgres.Start(t.Context(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	config := testConfig(server.URL("postgres"))
	pool := pgtest.Open(t, server.URL("postgres"))
	if err := migrations.Up(t.Context(), pool.Config().ConnConfig, config.schemas()); err != nil {
		t.Fatal(err)
	}
	// The worst default a server can have.
	if _, err := pool.Exec(t.Context(), `ALTER SYSTEM SET synchronous_commit = off`); err != nil {
		t.Fatal(err)
	}
	var acked []string
	for round := range 2 {
		receiver := startReceiver(t, config)
		acked = append(acked, receiver.load(t, fmt.Sprintf("evt_pg_%d", round), 300*(1+round), func() {
			if err := server.Kill(); err != nil {
				t.Error(err)
			}
		})...)
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		pool.Reset()
	}
	checkStored(t, pool, acked)
}

func TestPromise1_SIGTERMAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.Open(t, url)
	process := startProcess(t, url)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `LOCK TABLE webhook_events IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() { answered <- process.post(t, event("evt_term")).StatusCode }()
	eventually.True(t, "the event to wait for the lock", func() bool {
		var waiting bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
		return err == nil && waiting
	})
	if err := process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "new connections to be refused", func() bool { // nobody new is let in, and those inside are still served
		_, err := process.send(t.Context(), http.MethodGet, "/", nil)
		return err != nil
	})
	if err := process.ready(t); err == nil {
		t.Error("it is ready while it stops")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got != http.StatusOK {
		t.Errorf("status %d, want 200", got)
	}
	if err := process.Wait(); err != nil {
		t.Errorf("the receiver ended with %v", err)
	}
	checkStored(t, pool, []string{"evt_term"})
}

// process is the receiver as it is installed.
type process struct {
	addresses
	*exec.Cmd
}

// binary makes the program once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "receiver")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "receiver")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return program, nil
})

func TestMain(m *testing.M) {
	if store := os.Getenv(benchStore); store != "" {
		if err := serveBench(store); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if program, err := binary(); err == nil && code == 0 {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

func startProcess(t *testing.T, databaseURL string) *process {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(program)}
	p.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "LEADGRID_WEBHOOK_SECRET="+testSecret,
		"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_FORMAT=json")
	logs, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		var line struct{ Msg, Webhooks, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			p.addresses = addresses{webhooks: line.Webhooks, admin: line.Admin}
			go func() {
				for lines.Scan() { // or it would stop on a full pipe
				}
			}()
			return p
		}
	}
	t.Fatal("the receiver did not start")
	return nil
}

// load sends events from many connections until enough are acked, then does what is to be done to the receiver, and
// returns the ids of all that were acked, before and after.
func (a addresses) load(t *testing.T, prefix string, enough int, then func()) []string {
	t.Helper()
	var (
		mu      sync.Mutex
		acked   []string
		senders sync.WaitGroup
		once    sync.Once
	)
	for sender := range 32 {
		senders.Go(func() {
			conn := a.dial(t)
			answers := bufio.NewReader(conn)
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s_%d_%d", prefix, sender, n)
				body := event(id)
				request := append([]byte(head(body, fmt.Sprintf("Content-Length: %d", len(body)))), body...)
				if exchange(conn, answers, request) != nil {
					return // it is gone, or cannot store any more
				}
				mu.Lock()
				acked = append(acked, id)
				done := len(acked) >= enough
				mu.Unlock()
				if done {
					go once.Do(then)
				}
			}
		})
	}
	senders.Wait()
	once.Do(func() { t.Errorf("only %d events were acked", len(acked)) })
	return acked
}

// checkStored fails the test unless all these events are stored whole, and each stored event belongs to a flush that has
// its job.
func checkStored(t *testing.T, pool *pgxpool.Pool, ids []string) {
	t.Helper()
	var missing []string
	err := pool.QueryRow(t.Context(), `SELECT array_agg(id) FROM unnest($1::text[]) AS acked (id)
		WHERE NOT EXISTS (SELECT FROM webhook_events e WHERE e.id = acked.id AND e.payload ->> 'id' = acked.id)`, ids).Scan(&missing)
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d acked events are not stored, among them %s", len(missing), len(ids), missing[0])
	}
	var wrong int
	err = pool.QueryRow(t.Context(), `
		SELECT count(*) FROM (SELECT flush, count(*) AS events FROM webhook_events GROUP BY flush) stored
		FULL JOIN sync_flushes USING (flush)
		FULL JOIN (SELECT flush, count(*) AS jobs FROM leadgrid_queue.river_job
			LEFT JOIN webhook_events ON digest = decode(args ->> 'event', 'hex') GROUP BY 1) queued USING (flush)
		WHERE (stored.events, jobs) IS DISTINCT FROM (sync_flushes.events, 1)`).Scan(&wrong)
	if err != nil {
		t.Fatal(err)
	}
	if wrong > 0 {
		t.Errorf("%d flushes without their events or their job", wrong)
	}
	t.Logf("%d acked events are stored", len(ids)-len(missing))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	// Exchanged as a whole, as secrets are.
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
