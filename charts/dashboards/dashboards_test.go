package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/metrics"
)

// filled puts what Grafana would in place of its variables.
func filled(query Query) string {
	return strings.NewReplacer("$namespace", "crm", "$release", "leadgrid-sync", "$__rate_interval", "5m").Replace(query.expr())
}

func panels(t *testing.T, check func(dashboard string, panel Panel)) {
	t.Helper()
	n := 0
	for name, dashboard := range Dashboards() {
		for _, row := range dashboard.Rows {
			for _, panel := range row.Panels {
				check(name, panel)
				n++
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d panels", n)
	}
}

func TestChartHasTheseDashboards(t *testing.T) {
	files, err := filepath.Glob("../leadgrid-sync/dashboards/*.json")
	if err != nil || len(files) != len(Dashboards()) {
		t.Errorf("files in the chart: %v, %v", files, err)
	}
	for name, dashboard := range Dashboards() {
		want, err := dashboard.JSON()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../leadgrid-sync/dashboards/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s.json is not what its source says: run go run ./dashboards in charts/", name)
		}
	}
}

func TestPanelsAreComplete(t *testing.T) {
	units := map[string]bool{"s": true, "short": true, "none": true, "percentunit": true, "reqps": true, "ops": true, "rowsps": true}
	panels(t, func(dashboard string, panel Panel) {
		if panel.Title == "" || len(panel.Description) < 20 || !units[panel.Unit] || len(panel.Queries) == 0 {
			t.Errorf("%s: %q lacks a title, a description, a unit that Grafana knows, or a query", dashboard, panel.Title)
		}
		if panel.Runbook != "" {
			if _, err := os.Stat("../../docs/runbooks/" + panel.Runbook + ".md"); err != nil {
				t.Errorf("%s: %q: %v", dashboard, panel.Title, err)
			}
		}
	})
}

// TestQueries parses every query: its metrics must exist, and be those of this installation alone.
func TestQueries(t *testing.T) {
	types := metrics.Documented(t, "")
	shown := map[string]bool{}
	promql := parser.NewParser(parser.Options{})
	panels(t, func(dashboard string, panel Panel) {
		for _, query := range panel.Queries {
			expr, err := promql.ParseExpr(filled(query))
			if err != nil {
				t.Errorf("%s: %q: %v", dashboard, panel.Title, err)
				continue
			}
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				selector, ok := node.(*parser.VectorSelector)
				if !ok {
					return nil
				}
				name := types.Name(selector.Name)
				shown[name] = true
				if types[name] == "" {
					t.Errorf("%s: %q: docs/metrics.md has no %s", dashboard, panel.Title, selector.Name)
				}
				if !strings.Contains(selector.String(), `namespace="crm"`) || !strings.Contains(selector.String(), `job=~"leadgrid-sync-.*"`) {
					t.Errorf("%s: %q: %s is not of one installation", dashboard, panel.Title, selector)
				}
				return nil
			})
		}
	})
	for name := range types {
		if !shown[name] {
			t.Errorf("no dashboard shows %s", name)
		}
	}
}
