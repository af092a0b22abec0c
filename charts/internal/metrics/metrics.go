// Package metrics reads docs/metrics.md, so that tests can hold alerts, dashboards and the programs against it.
package metrics

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Types are metrics by name, each with its type: counter, gauge or histogram.
type Types map[string]string

var row = regexp.MustCompile("^\\| `(leadgrid_[a-z_]+)` \\| (counter|gauge|histogram) \\|")

// Documented reads the metrics of one program, receiver or worker, or of both if program is empty.
func Documented(t *testing.T, program string) Types {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	page, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	types, wanted := Types{}, false
	for line := range strings.Lines(string(page)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			wanted = strings.HasPrefix(strings.ToLower(title), program) || strings.HasPrefix(title, "Both programs")
		}
		if match := row.FindStringSubmatch(line); match != nil && wanted {
			if types[match[1]] != "" {
				t.Errorf("docs/metrics.md lists %s twice", match[1])
			}
			types[match[1]] = match[2]
		}
	}
	if len(types) < 10 {
		t.Fatalf("found only %d metrics in docs/metrics.md", len(types))
	}
	return types
}

// Name is the documented name of a series: a histogram is scraped as series ending in _bucket, _sum and _count.
func (types Types) Name(series string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(series, suffix); ok && types[base] == "histogram" {
			return base
		}
	}
	return series
}
