package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
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

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// documented is one row of docs/metrics.md.
type documented struct {
	kind    string   // gauge, counter or histogram
	labels  []string // sorted
	section string
}

var (
	metricRow = regexp.MustCompile("^\\| `(leadgrid_[a-z_]+)` \\| (gauge|counter|histogram) \\| (.*)$")
	labelName = regexp.MustCompile("`([a-z]+)`")
)

// readMetricsPage reads docs/metrics.md.
func readMetricsPage(t *testing.T) map[string]documented {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	metrics := make(map[string]documented)
	section := ""
	for line := range strings.Lines(string(page)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(title)
		}
		row := metricRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil {
			continue
		}
		var labels []string
		// Each label stands at the start of the cell or behind a separator; what follows a colon are its values.
		cell, _, _ := strings.Cut(row[3], " | ")
		for part := range strings.SplitSeq(cell, ";") {
			names, _, _ := strings.Cut(part, ":")
			for _, name := range labelName.FindAllStringSubmatch(names, -1) {
				labels = append(labels, name[1])
			}
		}
		slices.Sort(labels)
		metrics[row[1]] = documented{row[2], labels, section}
	}
	if len(metrics) < 40 {
		t.Fatalf("docs/metrics.md lists %d metrics: it is not read rightly", len(metrics))
	}
	return metrics
}

// scrape reads what a running program exports of its own, as Prometheus would.
func scrape(t *testing.T, admin string) map[string]*dto.MetricFamily {
	t.Helper()
	status, body := send(t, request(t, http.MethodGet, "http://"+admin+"/metrics"))
	if status != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "leadgrid_") })
	return families
}

// value adds up a family's counters or gauges whose labels are these.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
	for _, metric := range families[name].GetMetric() {
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && slices.ContainsFunc(metric.GetLabel(), func(pair *dto.LabelPair) bool {
				return pair.GetName() == labels[i] && pair.GetValue() == labels[i+1]
			})
		}
		if matches {
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// hold holds what a program exports against the page.
func hold(t *testing.T, program string, families map[string]*dto.MetricFamily, page map[string]documented) {
	t.Helper()
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(families))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("lint: %s: %s", problem.Metric, problem.Text)
	}
	for name, want := range page {
		theirs := strings.HasPrefix(strings.ToLower(want.section), program) || want.section == "Both programs"
		family := families[name]
		switch {
		case theirs && family == nil:
			t.Errorf("%s does not export %s, which docs/metrics.md lists", program, name)
		case !theirs && family != nil:
			t.Errorf("%s exports %s, which is not listed for it", program, name)
		}
	}
	for name, family := range families {
		want, listed := page[name]
		if !listed {
			t.Errorf("%s exports %s, which docs/metrics.md does not list", program, name)
			continue
		}
		if got := strings.ToLower(family.GetType().String()); got != want.kind {
			t.Errorf("%s is a %s, documented as a %s", name, got, want.kind)
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, pair := range metric.GetLabel() {
				labels = append(labels, pair.GetName())
			}
			slices.Sort(labels)
			if !slices.Equal(labels, want.labels) {
				t.Errorf("%s has labels %v, documented are %v", name, labels, want.labels)
				break
			}
		}
	}
}

// receiverBinary is the other program.
var receiverBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(folder, "receiver")
	output, err := exec.Command("go", "build", "-o", path, "../receiver").CombinedOutput()
	if err != nil {
		err = errors.New(string(output))
	}
	return path, err
})

const webhookSecret = "whsec_canary"

// receiving is a receiver at work.
type receiving struct {
	webhooks, admin string

	mu   sync.Mutex
	logs bytes.Buffer
}

func (r *receiving) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.String()
}

// receive starts a receiver in front of the same database.
func (w *world) receive(t *testing.T) *receiving {
	t.Helper()
	path, err := receiverBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + w.env["DATABASE_URL"], "LEADGRID_WEBHOOK_SECRET=" + webhookSecret,
		"LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_FORMAT=json", "LOG_LEVEL=" + cmp.Or(w.env["LOG_LEVEL"], "info"),
	}
	for name, value := range w.env {
		if strings.HasPrefix(name, "OTEL_") {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &receiving{}
	listening, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			r.mu.Lock()
			r.logs.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
			var line struct{ Msg, Webhooks, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				r.webhooks, r.admin = line.Webhooks, line.Admin
				close(listening)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the receiver ended with %v:\n%s", err, r.logged())
		}
	})
	select {
	case <-listening:
	case <-ended:
		t.Fatalf("the receiver ended at once:\n%s", r.logged())
	}
	return r
}

// post sends the receiver one signed event and returns the status.
func (r *receiving) post(t *testing.T, body string) int {
	t.Helper()
	hook, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.webhooks+"/webhooks/leadgrid", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	hook.Header.Set("X-LeadGrid-Signature", leadgridapi.Sign(webhookSecret, time.Now(), []byte(body)))
	status, _ := send(t, hook)
	return status
}

func request(t *testing.T, method, url string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// TestMetrics holds what the running programs export against docs/metrics.md, and looks for the trace of an event.
func TestMetrics(t *testing.T) {
	page := readMetricsPage(t)
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	traces := w.collectTraces(t)
	worker, receiver := w.start(t), w.receive(t)
	eventually.True(t, "both to be ready", func() bool {
		return value(scrape(t, worker.admin), "leadgrid_ready") == 1 && value(scrape(t, receiver.admin), "leadgrid_ready") == 1
	})

	born := scrape(t, worker.admin)
	for name, want := range page {
		// How often the API was asked for what is known by the code of its answers only once there was one.
		counter := want.kind == "counter" && strings.HasPrefix(want.section, "Worker") && name != "leadgrid_api_requests_total"
		if counter && len(born[name].GetMetric()) == 0 {
			t.Errorf("%s does not exist before it counts", name)
		}
	}

	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	dossier := slices.Min(slices.Collect(maps.Keys(w.Snapshot()["dossiers"])))
	if status := receiver.post(t, fmt.Sprintf(
		`{"id":"evt_1","type":"dossier.updated","created_at":"2026-01-01T00:00:00Z","data":{"id":%q}}`, dossier)); status != http.StatusOK {
		t.Fatalf("the receiver answers %d", status)
	}
	if _, err := w.pool.Exec(t.Context(), `SELECT add_note($1, 'hello')`, dossier); err != nil {
		t.Fatal(err)
	}
	// A sweep that nobody works on shows what is only there while one runs.
	_, err := w.pool.Exec(t.Context(), `INSERT INTO sync_sweeps (kind, resources, state, progress)
		VALUES ('full', '{flows}', 'running', '{"phase": "flows", "done": 1, "total": 2}')`)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]*dto.MetricFamily
	eventually.True(t, "the event and the command to be done, and the sweep to show", func() bool {
		got = scrape(t, worker.admin)
		return value(got, "leadgrid_event_to_row_seconds") == 1 && value(got, "leadgrid_commands_ended_total", "state", "done") == 1 &&
			value(got, "leadgrid_sweep_phase_progress_ratio", "kind", "full", "phase", "flows") == 0.5
	})
	hold(t, "worker", got, page)
	hold(t, "receiver", scrape(t, receiver.admin), page)

	for _, want := range []struct {
		name   string
		labels []string
		above  float64
	}{
		{"leadgrid_jobs_total", []string{"kind", "leadgrid_events", "queue", "events", "outcome", "completed"}, 1},
		{"leadgrid_job_duration_seconds", []string{"kind", "leadgrid_events"}, 1},
		{"leadgrid_api_requests_total", []string{"operation", "add_note", "code", "201"}, 1},
		{"leadgrid_api_requests_total", []string{"operation", "get_dossier", "code", "200"}, 1},
		{"leadgrid_api_request_duration_seconds", []string{"operation", "get_dossier"}, 1},
		{"leadgrid_mirror_rows_changed_total", []string{"table", "notes", "cause", "write_back"}, 1},
	} {
		if value := value(got, want.name, want.labels...); value < want.above {
			t.Errorf("%s%v = %v, want %v or more", want.name, want.labels, value, want.above)
		}
	}
	if other := value(got, "leadgrid_api_requests_total", "operation", "other"); other > 0 {
		t.Errorf("%v requests are of no known operation", other)
	}

	// From the webhook to the row: one trace, of both programs, which the metric that times it gives as an example.
	const path = "receiver: webhook > receiver: store events > worker: leadgrid_events > worker: get_dossier"
	var trace string
	eventually.True(t, "the event's trace", func() bool {
		for id, one := range traces.paths("get_dossier") {
			trace = id
			return one == path
		}
		return false
	})
	openMetrics := request(t, http.MethodGet, "http://"+worker.admin+"/metrics")
	openMetrics.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	if _, body := send(t, openMetrics); !regexp.MustCompile(`leadgrid_event_to_row_seconds_bucket.* # \{trace_id="` + trace + `"\}`).MatchString(body) {
		t.Errorf("the event's trace %s is no example of leadgrid_event_to_row_seconds", trace)
	}
	if len(traces.paths("list_dossiers")) > 0 {
		t.Error("a sweep is traced")
	}
}
