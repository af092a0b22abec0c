package writeback

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	finished *prometheus.CounterVec
	seconds  prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, pool *pgxpool.Pool, paused bool) *metrics {
	if registerer == nil {
		registerer = prometheus.NewRegistry()
	}
	factory := promauto.With(registerer)
	m := &metrics{
		finished: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "leadgrid_commands_ended_total",
			Help: "Write-back commands that came to an end here: done, refused, or unknown and left to a person.",
		}, []string{"operation", "state"}),
		seconds: factory.NewHistogram(prometheus.HistogramOpts{
			Name:                        "leadgrid_command_seconds",
			Help:                        "Time from a command's being written to LeadGrid's answer.",
			Buckets:                     prometheus.ExponentialBuckets(0.01, 2, 14),
			NativeHistogramBucketFactor: 1.1,
		}),
	}
	gauge := factory.NewGauge(prometheus.GaugeOpts{
		Name: "leadgrid_writeback_paused",
		Help: "1 while WRITEBACK_PAUSED keeps commands from being sent.",
	})
	if paused {
		gauge.Set(1)
	}
	for _, operation := range Operations {
		for _, state := range []State{Done, Refused, Unknown} {
			m.finished.WithLabelValues(string(operation), string(state))
		}
	}
	registerer.MustRegister(&openCommands{
		pool: pool,
		open: prometheus.NewDesc("leadgrid_commands_open",
			"Write-back commands that are not finished. Every replica repeats it: take the maximum.", []string{"operation", "state"}, nil),
		waiting: prometheus.NewDesc("leadgrid_commands_unknown",
			"Write-back commands whose outcome is unknown and which wait for a person. Every replica repeats it: take the maximum.", nil, nil),
		oldest: prometheus.NewDesc("leadgrid_commands_oldest_pending_seconds",
			"Age of the oldest write-back command that is to be sent. Every replica repeats it: take the maximum.", nil, nil),
	})
	return m
}

// openCommands counts unfinished commands when it is asked.
type openCommands struct {
	pool                  *pgxpool.Pool
	open, waiting, oldest *prometheus.Desc
}

func (o *openCommands) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- o.open
	descriptions <- o.waiting
	descriptions <- o.oldest
}

func (o *openCommands) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	rows, err := o.pool.Query(ctx, `
		SELECT operation, state, count(*), count(*) FILTER (WHERE state = 'unknown' AND due_at IS NULL),
		       coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE state = 'pending')), 0)::float8
		FROM commands WHERE state IN ('pending', 'sending', 'unknown')
		GROUP BY 1, 2`)
	counts := make(map[[2]string]int64)
	var waiting int64
	var oldest float64
	if err == nil {
		for rows.Next() {
			var key [2]string
			var n, asked int64
			var age float64
			if err = rows.Scan(&key[0], &key[1], &n, &asked, &age); err != nil {
				break
			}
			counts[key] = n
			waiting += asked
			oldest = max(oldest, age)
		}
		rows.Close()
		err = rows.Err()
	}
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(o.open, err)
		return
	}
	for _, operation := range Operations {
		for _, state := range []State{Pending, Sending, Unknown} {
			metrics <- prometheus.MustNewConstMetric(o.open, prometheus.GaugeValue,
				float64(counts[[2]string{string(operation), string(state)}]), string(operation), string(state))
		}
	}
	metrics <- prometheus.MustNewConstMetric(o.waiting, prometheus.GaugeValue, float64(waiting))
	metrics <- prometheus.MustNewConstMetric(o.oldest, prometheus.GaugeValue, oldest)
}
