// Package metric holds what the histograms of all our packages have in common.
package metric

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Seconds describes a histogram of durations in seconds, for a server that scrapes these buckets and for one that scrapes native
// histograms.
func Seconds(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}
}
