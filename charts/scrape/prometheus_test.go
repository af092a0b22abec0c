//go:build scrape

package scrape_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

// prometheusBinary is PROMETHEUS, or the one in PATH, or built: it cannot be a tool of go.mod, which would want every cloud's
// client that its build tag leaves out.
func prometheusBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PROMETHEUS"); path != "" {
		return path
	}
	if path, err := exec.LookPath("prometheus"); err == nil {
		return path
	}
	bin, err := filepath.Abs(filepath.Join(root, ".tmp", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	version := ""
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/prometheus/prometheus" {
			version = module.Version
		}
	}
	install := exec.Command("go", "install", "-tags", "remove_all_sd,netgo", "github.com/prometheus/prometheus/cmd/prometheus@"+version)
	install.Dir, install.Env = t.TempDir(), append(os.Environ(), "GOBIN="+bin)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("build Prometheus: %v\n%s", err, out)
	}
	return filepath.Join(bin, "prometheus")
}

// prometheus is one that scrapes, and answers.
type prometheus struct {
	base  string
	since time.Time
}

// startPrometheus runs it with compose's configuration and alerts, pointed at these programs.
func startPrometheus(t *testing.T, receiver, worker string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yaml", "alerts.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "compose", name))
		if err != nil {
			t.Fatal(err)
		}
		told := strings.NewReplacer("receiver:9090", receiver, "worker:9091", worker, "/etc/prometheus/", dir+"/").Replace(string(text))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(told), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &prometheus{since: time.Now()}
	server := tool.Start(t, nil, prometheusBinary(t), "--config.file="+filepath.Join(dir, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	p.base = "http://" + find(t, server, `msg="Listening on"[^\n]* address=(\S+)`)
	return p
}

// get asks Prometheus' API.
func (p *prometheus) get(t *testing.T, path string, arguments url.Values, data any) {
	t.Helper()
	response, err := http.Get(p.base + "/api/v1/" + path + "?" + arguments.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if answer.Status != "success" {
		t.Fatalf("%s %v: %s", path, arguments, answer.Error)
	}
}

// answer is what a query gave at any moment since the start.
type answer struct {
	series  int
	numbers int     // samples that are numbers: no quantile of nothing, no division of nothing by nothing
	largest float64 // their largest amount
}

func (a answer) String() string {
	if a.numbers == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d series, up to %.4g", a.series, a.largest)
}

func (p *prometheus) query(t *testing.T, expr string) (a answer) {
	t.Helper()
	var data struct {
		Result []struct{ Values [][2]any }
	}
	at := func(when time.Time) string { return strconv.FormatFloat(float64(when.UnixMilli())/1000, 'f', 3, 64) }
	p.get(t, "query_range", url.Values{"query": {expr}, "start": {at(p.since)}, "end": {at(time.Now())}, "step": {"5"}}, &data)
	a.series = len(data.Result)
	for _, series := range data.Result {
		for _, sample := range series.Values {
			value, err := strconv.ParseFloat(fmt.Sprint(sample[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			if !math.IsNaN(value) {
				a.numbers++
				a.largest = max(a.largest, math.Abs(value))
			}
		}
	}
	return a
}
