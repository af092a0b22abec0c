package jobs

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	eventToRow prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	return &metrics{
		eventToRow: factory.NewHistogram(prometheus.HistogramOpts{
			Name:                        "leadgrid_event_to_row_seconds",
			Help:                        "Time from a webhook's being stored to everything it pointed to being mirrored.",
			Buckets:                     prometheus.ExponentialBuckets(0.01, 2, 14),
			NativeHistogramBucketFactor: 1.1,
		}),
	}
}
