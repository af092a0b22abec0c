//go:build scrape

// Package scrape_test lets a real Prometheus scrape the real programs while the demo's people are at work, and holds what
// it gets against docs/metrics.md, the dashboards and the alerts. `make scrape` runs it.
package scrape_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/metrics"
	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

// still are the queries of panels that show nothing but zeros while all is well, by panel and legend; and why.
var still = map[string]string{
	"Blocked for: blocked":                                     "the stand-in's rate limit suffices",
	"Waiting for the budget, and refusals: 429 in an hour":     "the same",
	"Waiting for the budget, and refusals: {{share}}: waiting": "the same",
	"Put off: {{share}} {{result}}":                            "the same",
	"Commands not ended: waiting for a person":                 "every command gets an answer",
	"Commands not ended: {{state}}":                            "at the moment of a scrape there may be none",
	"Oldest pending: oldest":                                   "the same",
	"Events waiting: events":                                   "the same",
	"Oldest that waits: event":                                 "the same",
	"Oldest that waits: job in {{queue}}":                      "the same",
	"Deletion breaker: breaker":                                "few rows go",
	"Events per transaction: events before one":                "nobody waits for a transaction at three events a second",
	"Events per transaction: given up a minute":                "the database takes them all",
	"Refused by LeadGrid: {{scope}} {{reason}}":                "LeadGrid takes the key",
	"Tombstones: {{table}}":                                    "whatever goes may go between two sweeps",
	"Waiting for a connection: {{job}}":                        "there are connections enough",
	"Write-back: write-back":                                   "it is on",
}

// TestScrape is one story, as starting the world takes longest.
func TestScrape(t *testing.T) {
	d := startDemo(t)
	p := startPrometheus(t, d.receiver, d.worker)
	d.workload(t)
	panels(t, p)
	alerts(t, p)
	exported(t, p)
}

// panels wants every query of every dashboard to have answered with numbers, and not all of them zero unless still says why.
func panels(t *testing.T, p *prometheus) {
	queries := readDashboards(t)
	answers := map[string]answer{}
	missing := func() (names []string) {
		for name, expr := range queries {
			if answers[name].largest > 0 {
				continue
			}
			answers[name] = p.query(t, expr)
			if answers[name].numbers == 0 || answers[name].largest == 0 && still[name] == "" {
				names = append(names, fmt.Sprintf("%s: %v from %s", name, answers[name], expr))
			}
		}
		return names
	}
	tool.Eventually(t, func() bool { return len(missing()) == 0 }, func() string {
		return "these queries show nothing:\n" + strings.Join(slices.Sorted(slices.Values(missing())), "\n")
	})
	for _, name := range slices.Sorted(maps.Keys(queries)) {
		t.Logf("%s: %v", name, answers[name])
	}
	for name := range still {
		if queries[name] == "" {
			t.Errorf("no panel is called %q", name)
		}
	}
}

// readDashboards gives what Grafana would ask, by dashboard, panel and legend.
func readDashboards(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../leadgrid-sync/dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	// Grafana's $__rate_interval is four times the interval of scrapes.
	filled := strings.NewReplacer("$namespace", "compose", "$release", "leadgrid-sync", "$__rate_interval", "20s")
	queries := map[string]string{}
	for _, file := range files {
		var dashboard struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &dashboard)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				queries[panel.Title+": "+target.LegendFormat] = filled.Replace(target.Expr)
			}
		}
	}
	return queries
}

// alerts wants every alert to be evaluated without an error and not to fire, and everything that its query selects to be
// there: an alert that asks for a label which no series has would be silent for ever.
func alerts(t *testing.T, p *prometheus) {
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Query, State, Health, LastError string }
		}
	}
	p.get(t, "rules", url.Values{"type": {"alert"}}, &rules)
	promql := parser.NewParser(parser.Options{})
	n := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			n++
			if rule.Health != "ok" || rule.State == "firing" { // pending may be a busy machine
				t.Errorf("%s is %s, %s %s", rule.Name, rule.State, rule.Health, rule.LastError)
			}
			expr, err := promql.ParseExpr(rule.Query)
			if err != nil {
				t.Errorf("%s: %v", rule.Name, err)
				continue
			}
			for _, path := range parser.ExtractSelectors(expr) {
				var selector []string
				for _, matcher := range path {
					selector = append(selector, matcher.String())
				}
				found := p.query(t, "{"+strings.Join(selector, ",")+"}")
				t.Logf("%s: %v: %v", rule.Name, selector, found)
				if found.numbers == 0 {
					t.Errorf("%s asks for %v, which is not there", rule.Name, selector)
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("Prometheus has only %d alerts", n)
	}
}

// exported wants of each program exactly what docs/metrics.md lists for it, with its type.
func exported(t *testing.T, p *prometheus) {
	for _, program := range []string{"receiver", "worker"} {
		job := "leadgrid-sync-" + program
		var metadata []struct{ Metric, Type string }
		p.get(t, "targets/metadata", url.Values{"match_target": {`{job="` + job + `"}`}}, &metadata)
		types := metrics.Types{}
		for _, one := range metadata {
			types[one.Metric] = one.Type
			types[one.Metric+"_total"] = one.Type // OpenMetrics names a counter without its ending
		}
		var names []string
		p.get(t, "label/__name__/values", url.Values{"match[]": {`{job="` + job + `"}`}}, &names)
		found := map[string]string{}
		for _, name := range names {
			name = types.Name(name)
			if strings.HasPrefix(name, "leadgrid_") {
				found[name] = types[name]
			} else if !regexp.MustCompile(`^(go|process|promhttp|scrape)_|^up$|^ALERTS`).MatchString(name) {
				t.Errorf("the %s exports %s", program, name)
			}
		}
		want := metrics.Documented(t, program)
		t.Logf("%s: %d metrics, %d documented", program, len(found), len(want))
		for name, kind := range want {
			if found[name] != kind {
				t.Errorf("the %s's %s is a %q, docs/metrics.md lists a %s", program, name, found[name], kind)
			}
		}
		for name := range found {
			if want[name] == "" {
				t.Errorf("docs/metrics.md does not list %s for the %s", name, program)
			}
		}
	}
}
