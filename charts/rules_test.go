package charts_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/metrics"
)

// allAlerts renders every alert of a release leadgrid-sync.
func allAlerts(t *testing.T, namespace string) []byte {
	t.Helper()
	out, err := helm(t, "template", "leadgrid-sync", chart, "--namespace", namespace, "--show-only", "templates/prometheusrule.yaml", "--set",
		"image.repository=a,secrets.existingSecret=b,prometheusRule.enabled=true,prometheusRule.alerts.LeadgridNoTraffic.enabled=true")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := yaml.Marshal(get(split(t, out)[0], "spec"))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func parseAlerts(t *testing.T, rules []byte) (alerts []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	unmarshal(t, rules, &file)
	for _, group := range file.Groups {
		alerts = append(alerts, group.Rules...)
	}
	return alerts
}

func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := run(t, "promtool", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestAlertsFire runs the rule tests in rules/, which make every alert fire and stay silent.
func TestAlertsFire(t *testing.T) {
	dir := t.TempDir()
	rules := allAlerts(t, "crm")
	if err := os.WriteFile(filepath.Join(dir, "alerts.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")
	tests, err := os.ReadFile("rules/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "alerts_test.yaml"), tests, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "test", "rules", "alerts_test.yaml")

	var file struct {
		Tests []struct {
			Name          string
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	unmarshal(t, tests, &file)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, check := range test.AlertRuleTest {
			if len(check.ExpAlerts) > 0 {
				fires[check.Alertname] = true
			} else {
				silent[check.Alertname] = true
			}
		}
	}
	for _, alert := range parseAlerts(t, rules) {
		if !fires[alert.Alert] || !silent[alert.Alert] {
			t.Errorf("no test makes %s fire, or none keeps it silent", alert.Alert)
		}
	}
}

// TestAlertsHaveSwitches holds values.yaml, docs and runbooks against the alerts there are.
func TestAlertsHaveSwitches(t *testing.T) {
	alerts := parseAlerts(t, allAlerts(t, "crm"))
	var names []string
	for _, alert := range alerts {
		names = append(names, alert.Alert)
		if s := alert.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has severity %q", alert.Alert, s)
		}
		page := filepath.Join("..", "docs", "runbooks", alert.Alert+".md")
		if want := "https://github.com/leadgrid-sync/leadgrid-sync/blob/main/docs/runbooks/" + alert.Alert + ".md"; alert.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url is %q, want %q", alert.Alert, alert.Annotations["runbook_url"], want)
		}
		content, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
		}
		for _, part := range []string{
			"# " + alert.Alert, "Severity: " + alert.Labels["severity"], "## What users see", "## How to confirm", "## What to do", "## How to know that it is over",
		} {
			if !strings.Contains(string(content), part) {
				t.Errorf("%s lacks %q", page, part)
			}
		}
	}
	slices.Sort(names)
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	unmarshal(t, text, &values)
	switches := slices.Sorted(maps.Keys(get(values, "prometheusRule.alerts").(map[string]any)))
	if diff := cmp.Diff(switches, names); diff != "" {
		t.Errorf("alerts in values.yaml and in the rule differ (-values +rule)\n%s", diff)
	}
	for _, name := range names {
		out := render(t, fmt.Sprintf("prometheusRule: {enabled: true, alerts: {%s: {enabled: false}}}", name))
		text, err := yaml.Marshal(out.find(t, "PrometheusRule", "").Object)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "alert: "+name+"\n") {
			t.Errorf("%s cannot be switched off", name)
		}
	}
}

var metricName = regexp.MustCompile("leadgrid_[a-z0-9_]+")

// unknownMetrics are those in a query that docs/metrics.md does not have.
func unknownMetrics(types metrics.Types, query string) (unknown []string) {
	for _, name := range metricName.FindAllString(query, -1) {
		if types[types.Name(name)] == "" {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func TestAlertsUseDocumentedMetrics(t *testing.T) {
	types := metrics.Documented(t, "")
	for _, alert := range parseAlerts(t, allAlerts(t, "crm")) {
		if unknown := unknownMetrics(types, alert.Expr); unknown != nil {
			t.Errorf("%s uses %v, which docs/metrics.md does not have", alert.Alert, unknown)
		}
		if strings.Contains(alert.Expr, "@") {
			t.Errorf("%s: something was not put in: %s", alert.Alert, alert.Expr)
		}
	}
	pages, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if unknown := unknownMetrics(types, string(text)); unknown != nil {
			t.Errorf("%s names %v, which docs/metrics.md does not have", page, unknown)
		}
	}
}

// TestComposeHasTheSameAlerts: compose's Prometheus reads a file, not a PrometheusRule. UPDATE=1 writes it.
func TestComposeHasTheSameAlerts(t *testing.T) {
	golden(t, "../compose/alerts.yaml", append([]byte("# Rendered from the chart: UPDATE=1 make chart\n"), allAlerts(t, "compose")...))
}
