package admin

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// PoolStats exports how busy a pool's connections are, and how long work has waited for one.
func PoolStats(pool *pgxpool.Pool) prometheus.Collector { return poolStats{pool} }

type poolStats struct{ pool *pgxpool.Pool }

var (
	poolConnections = prometheus.NewDesc("leadgrid_database_connections",
		"Connections of this program's pool, by state; their sum is how many are open.", []string{"state"}, nil)
	poolMax = prometheus.NewDesc("leadgrid_database_connections_max",
		"The most connections that this program's pool opens.", nil, nil)
	poolWait = prometheus.NewDesc("leadgrid_database_acquire_wait_seconds_total",
		"How long work has waited for a connection when none was idle.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (poolStats) Describe(descs chan<- *prometheus.Desc) {
	descs <- poolConnections
	descs <- poolMax
	descs <- poolWait
}

// Collect implements [prometheus.Collector].
func (p poolStats) Collect(metrics chan<- prometheus.Metric) {
	s := p.pool.Stat()
	gauge := func(desc *prometheus.Desc, value int32, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(poolConnections, s.AcquiredConns(), "acquired")
	gauge(poolConnections, s.IdleConns(), "idle")
	gauge(poolConnections, s.ConstructingConns(), "connecting")
	gauge(poolMax, s.MaxConns())
	metrics <- prometheus.MustNewConstMetric(poolWait, prometheus.CounterValue, s.EmptyAcquireWaitTime().Seconds())
}
