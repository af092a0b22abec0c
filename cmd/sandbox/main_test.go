package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func environment(pairs ...string) func(string) (string, bool) {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) { value, ok := values[name]; return value, ok }
}

func TestConfigure(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configure(
		[]string{"--order", "newest", "--hide-archived", "-s", "retry-after=date", "--set=slow=0.25", "--requests=7", "--omits", "dossiers.city,stages.color"},
		environment("SANDBOX_ORDER", "oldest", "SANDBOX_PAST_END", "repeat", "SANDBOX_WEBHOOK_URL", "http://localhost/x",
			"SANDBOX_WEBHOOK_SECRET_FILE", secret, "SANDBOX_DOSSIERS", "12", "SANDBOX_OMIT_NULLS", "true"),
		io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	h := c.settings.Habits
	if h.Order != "newest" || !h.HideArchived || h.RetryAfter != "date" || h.PastEnd != "repeat" || !h.OmitNulls || len(h.Omits) != 2 ||
		c.settings.Faults.Slow != 0.25 || c.settings.Limits.Requests != 7 || c.webhookSecret != "from a file" || c.size.Dossiers != 12 {
		t.Errorf("%+v", c)
	}
}

func TestConfigureRefuses(t *testing.T) {
	for _, row := range []struct {
		args []string
		env  []string
		want string
	}{
		{[]string{"-s", "ordr=newest"}, nil, "there are anonymous-notes, bad-gateway"},
		{[]string{"-s", "order"}, nil, "wants name=value"},
		{[]string{"--order", "up"}, nil, "one of oldest, newest"},
		{nil, []string{"SANDBOX_SLOW", "1.5"}, "SANDBOX_SLOW: slow is a probability"},
		{nil, []string{"SANDBOX_KEY_FILE", "/nowhere"}, "SANDBOX_KEY_FILE"},
		{[]string{"--scopes", "dossiers:read,all"}, nil, `there is no "all"`},
		{[]string{"--webhook-url", "http://x"}, nil, "needs a webhook-secret"},
		{[]string{"--notes=-1"}, nil, "cannot be negative"},
		{[]string{"serve"}, nil, `"serve" is not a flag`},
		{[]string{"--webhook-url", "http://x", "--scopes", "all"}, []string{"SANDBOX_IDS", "int"}, "SANDBOX_IDS"},
	} {
		_, err := configure(row.args, environment(row.env...), io.Discard)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%v %v: %v, want %q", row.args, row.env, err, row.want)
		}
	}
}

func TestHelpNamesEverySwitch(t *testing.T) {
	var out bytes.Buffer
	if _, err := configure([]string{"--help"}, environment(), &out); !errors.Is(err, pflag.ErrHelp) {
		t.Fatal(err)
	}
	for _, s := range leadgridtest.Switches() {
		if !strings.Contains(out.String(), "--"+s.Name) {
			t.Errorf("--help does not name %s", s.Name)
		}
	}
}

// buffer is written by the program while the test reads it.
type buffer struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func newBuffer() *buffer { return &buffer{changed: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

// find waits for what the expression finds.
func (b *buffer) find(t *testing.T, expression string) []string {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		b.mu.Lock()
		found := regexp.MustCompile(expression).FindStringSubmatch(b.text.String())
		b.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-b.changed:
		case <-deadline:
			t.Fatalf("never printed: %s", expression)
		}
	}
}

func TestVersion(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"--version"}, environment(), &out, io.Discard); err != nil || !strings.Contains(out.String(), "(commit ") {
		t.Errorf("--version says %q, %v", out.String(), err)
	}
}

func TestRun(t *testing.T) {
	hooks := make(chan string, 1000)
	receiver := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hooks <- r.Header.Get("X-LeadGrid-Signature") })}
	listener := listen(t)
	go receiver.Serve(listener)
	defer receiver.Close()

	ctx, stop := context.WithCancel(t.Context())
	out, log, ended := newBuffer(), newBuffer(), make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--listen", "127.0.0.1:0", "--live", "200", "--dossiers", "30", "--contacts", "10", "--key", "lg_live_test",
			"--webhook-url", "http://" + listener.Addr().String(), "--webhook-secret", "s"}, environment(), out, log)
	}()
	base := out.find(t, `LEADGRID_BASE_URL=(http://127\.0\.0\.1:\d+/api/v1) LEADGRID_API_KEY=lg_live_test worker run`)[1]
	request, _ := http.NewRequestWithContext(ctx, "GET", base+"/dossiers?search=secret-name", nil)
	request.Header.Set("Authorization", "Bearer lg_live_test")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
	if line := log.find(t, `msg=request operation=dossiers.list .*\n`)[0]; !strings.Contains(line, "status=200") || strings.Contains(line, "secret") || strings.Contains(line, "lg_live") {
		t.Errorf("log line %q", line)
	}
	if signature := <-hooks; !strings.HasPrefix(signature, "t=") {
		t.Errorf("signature %q", signature)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
