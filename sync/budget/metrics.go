package budget

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics shows the budget as this replica last read it. Every replica shows the same: aggregate the gauges with max.
type metrics struct {
	limit, remaining, blocked, pace prometheus.Gauge
	wait                            *prometheus.CounterVec
	noToken                         *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		limit: f.NewGauge(prometheus.GaugeOpts{Name: "leadgrid_api_budget_limit",
			Help: "LeadGrid's announced rate limit in requests per window; 0 if none was announced."}),
		remaining: f.NewGauge(prometheus.GaugeOpts{Name: "leadgrid_api_budget_remaining",
			Help: "Requests left in the window, as LeadGrid last announced."}),
		blocked: f.NewGauge(prometheus.GaugeOpts{Name: "leadgrid_api_budget_blocked_until_seconds",
			Help: "Unix time until which LeadGrid asked to send nothing; in the past when it does not."}),
		pace: f.NewGauge(prometheus.GaugeOpts{Name: "leadgrid_api_budget_pace",
			Help: "Requests per second that all replicas together may send."}),
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

func (m *metrics) show(s *State) {
	m.limit.Set(float64(s.Limit))
	m.remaining.Set(float64(s.Reading.Remaining))
	if !s.BlockedUntil.IsZero() {
		m.blocked.Set(float64(s.BlockedUntil.UnixMilli()) / 1000)
	}
	m.pace.Set(s.pace(s.Granted))
}
