// Package ratio reports comparisons of benchmarks. A machine's speed drifts, so a benchmark measures both sides in turn, once
// per round, and reports the median of the rounds' ratios with their spread.
package ratio

import (
	"slices"
	"testing"
)

// Report adds the median of the rounds to what b prints, as unit, and the least and greatest as unit-low and unit-high.
func Report(b *testing.B, unit string, rounds []float64) {
	b.Helper()
	if len(rounds) == 0 {
		b.Fatalf("%s: nothing was measured", unit)
	}
	b.ReportMetric(Median(rounds), unit)
	b.ReportMetric(slices.Min(rounds), unit+"-low")
	b.ReportMetric(slices.Max(rounds), unit+"-high")
}

// Of divides two sides round by round.
func Of[R any](ours, theirs []R, measure func(R) float64) []float64 {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = measure(ours[i]) / measure(theirs[i])
	}
	return ratios
}

// Median is the middle of values, the upper one of two.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
