package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// serve runs a server for the test and returns its address as a URL.
func serve(t *testing.T, config Config, pages map[string]http.Handler) (server *Server, base string, stop func() error) {
	t.Helper()
	config.Addr, config.Logger = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	if config.Registry == nil {
		config.Registry = prometheus.NewRegistry()
	}
	server, err := Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	for pattern, page := range pages {
		server.Handle(pattern, page)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-served
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return server, "http://" + server.Addr(), stop
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestReadyAsksEveryCheck(t *testing.T) {
	var database error
	released := make(chan struct{})
	defer close(released)
	hang := func(context.Context) error { // ignores its context, as a probe should not
		<-released
		return nil
	}
	checks := []Check{
		{Name: "database", Probe: func(context.Context) error { return database }},
		{Name: "schema", Probe: func(context.Context) error { return nil }},
	}
	server, base, _ := serve(t, Config{Checks: checks}, nil)
	if status, body := get(t, base+"/readyz"); status != 200 || body != "database: ok\nschema: ok\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	database = errors.New("connection refused:\n\tport 5432")
	if status, body := get(t, base+"/readyz"); status != 503 || body != "database: connection refused: port 5432\nschema: ok\n" {
		t.Errorf("without a database: %d %q", status, body)
	}
	if status, body := get(t, base+"/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("healthz without a database: %d %q, want 200", status, body)
	}
	database = nil
	server.Drain()
	if status, body := get(t, base+"/readyz"); status != 503 || body != "stopping\n" {
		t.Errorf("while draining: %d %q", status, body)
	}
	if status, _ := get(t, base+"/healthz"); status != 200 {
		t.Errorf("healthz while draining: %d, want 200", status)
	}
	_, base, _ = serve(t, Config{Checks: []Check{{Name: "stuck", Timeout: time.Millisecond, Probe: hang}}}, nil)
	if status, body := get(t, base+"/readyz"); status != 503 || body != "stuck: no answer within 1ms\n" {
		t.Errorf("with a stuck check: %d %q", status, body)
	}
	_, base, _ = serve(t, Config{}, nil)
	if status, body := get(t, base+"/readyz"); status != 200 || body != "ok\n" {
		t.Errorf("without checks: %d %q", status, body)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	_, base, _ := serve(t, Config{Registry: registry}, nil)
	status, body := get(t, base+"/metrics")
	if status != 200 || !strings.Contains(body, `leadgrid_build_info{commit="`) {
		t.Errorf("metrics: %d\n%s", status, body)
	}
	problems, err := testutil.GatherAndLint(registry, "leadgrid_build_info")
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestPagesAndProfiles(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	_, base, _ := serve(t, Config{}, map[string]http.Handler{"/jobs/": page})
	for path, want := range map[string]int{"/jobs/x": 200, "/debug/pprof/": 404, "/nothing": 404} {
		if status, _ := get(t, base+path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	response, err := http.Post(base+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /metrics: %d, want 405", response.StatusCode)
	}
	_, base, _ = serve(t, Config{PPROF: true}, nil)
	if status, _ := get(t, base+"/debug/pprof/goroutine"); status != 200 {
		t.Errorf("profiles when asked for: %d, want 200", status)
	}
}

func TestServeFinishesWhatItHas(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	})
	server, base, stop := serve(t, Config{}, map[string]http.Handler{"/slow": slow})
	got := make(chan string, 1)
	go func() {
		response, err := http.Get(base + "/slow")
		if err != nil {
			got <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		got <- string(body)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until the listener is closed
		conn, err := net.Dial("tcp", server.Addr())
		if err != nil {
			break
		}
		conn.Close()
	}
	close(leave)
	if body := <-got; body != "done" {
		t.Errorf("the request under way got %q", body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestListenSaysWhenTheAddressIsTaken(t *testing.T) {
	server, _, _ := serve(t, Config{}, nil)
	_, err := Listen(Config{Addr: server.Addr(), Registry: prometheus.NewRegistry(), Logger: slog.Default()})
	if err == nil || !strings.HasPrefix(err.Error(), "listen on ADMIN_ADDR: ") {
		t.Errorf("Listen = %v", err)
	}
}

func TestProtect(t *testing.T) {
	password := "first"
	page := Protect("admin", func() string { return password }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	try := func(user, secret string, header map[string]string) int {
		request := httptest.NewRequest(http.MethodPost, "http://worker/jobs", nil)
		if user != "" {
			request.SetBasicAuth(user, secret)
		}
		for name, value := range header {
			request.Header.Set(name, value)
		}
		response := httptest.NewRecorder()
		page.ServeHTTP(response, request)
		return response.Code
	}
	check := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	check("nobody", try("", "", nil), 401)
	check("another user", try("root", "first", nil), 401)
	check("a wrong password", try("admin", "second", nil), 401)
	check("the right one", try("admin", "first", nil), 200)
	check("from another site", try("admin", "first", map[string]string{"Sec-Fetch-Site": "cross-site"}), 403)
	check("from the page itself", try("admin", "first", map[string]string{"Sec-Fetch-Site": "same-origin"}), 200)
	password = "second"
	check("the old one after a change", try("admin", "first", nil), 401)
	check("the new one", try("admin", "second", nil), 200)
	password = ""
	check("no password set", try("admin", "", nil), 401)
}
