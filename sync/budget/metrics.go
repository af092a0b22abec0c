package budget

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics is what this replica's requests met. What all replicas share is in [Status].
type metrics struct {
	wait    *prometheus.CounterVec
	noToken *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		wait: f.NewCounterVec(prometheus.CounterOpts{Name: "leadgrid_api_budget_wait_seconds_total",
			Help: "Time requests waited for the budget before they were sent."}, []string{"share"}),
		noToken: f.NewCounterVec(prometheus.CounterOpts{Name: "leadgrid_api_budget_waits_total",
			Help: "Requests put off because there was no budget for them: wait (a moment) or later (their job comes back)."}, []string{"share", "result"}),
	}
	for c := range shares {
		m.wait.WithLabelValues(c.String())
		m.noToken.WithLabelValues(c.String(), "wait")
		m.noToken.WithLabelValues(c.String(), "later")
	}
	return m
}

func (m *metrics) waited(c Share, waited bool, d time.Duration) {
	if waited {
		m.wait.WithLabelValues(c.String()).Add(d.Seconds())
		m.noToken.WithLabelValues(c.String(), "wait").Inc()
	}
}

func (m *metrics) refused(c Share) { m.noToken.WithLabelValues(c.String(), "later").Inc() }
