package writeback

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/leadgrid-sync/leadgrid-sync/internal/metric"
)

// metrics counts what this replica's runner did. How many commands are open is read from the table, by cmd/worker.
type metrics struct {
	finished *prometheus.CounterVec
	seconds  prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, isPaused bool) *metrics {
	if registerer == nil {
		registerer = prometheus.NewRegistry()
	}
	factory := promauto.With(registerer)
	m := &metrics{
		finished: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "leadgrid_commands_ended_total",
			Help: "Write-back commands that came to an end here: done, refused, or unknown and left to a person.",
		}, []string{"operation", "state"}),
		seconds: factory.NewHistogram(metric.Seconds("leadgrid_command_seconds",
			"Time from a command's being written to LeadGrid's answer.", prometheus.ExponentialBuckets(0.01, 2, 14))),
	}
	for _, operation := range Operations {
		for _, state := range []State{Done, Refused, Unknown} {
			m.finished.WithLabelValues(string(operation), string(state))
		}
	}
	paused := factory.NewGauge(prometheus.GaugeOpts{
		Name: "leadgrid_writeback_paused",
		Help: "1 if WRITEBACK_PAUSED keeps commands from being sent.",
	})
	if isPaused {
		paused.Set(1)
	}
	return m
}
