package main

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/leadgrid-sync/leadgrid-sync/internal/metric"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// result is how a webhook ended, as metrics and logs call it.
type result string

const (
	resultStored      result = "stored"
	resultDuplicate   result = "duplicate"
	resultOdd         result = "odd"
	resultUnsigned    result = "unsigned" // no signature, or not a right or a timely one
	resultTooLarge    result = "too_large"
	resultTooSlow     result = "too_slow"
	resultBroken      result = "broken"      // fewer bytes than announced, or broken chunks
	resultUnavailable result = "unavailable" // authentic, but the database could not take it
	resultCrowded     result = "crowded"     // too many large bodies at once, from whomever
	resultPanicked    result = "panicked"
)

var (
	acceptedResults = []result{resultStored, resultDuplicate, resultOdd}
	refusedResults  = []result{resultUnsigned, resultTooLarge, resultTooSlow, resultBroken, resultUnavailable, resultCrowded, resultPanicked}
)

// Labels hold no value that a sender chooses.
const (
	typeOther = "other" // not documented
	typeNone  = "none"  // not known: the event was not read, or names none
)

var knownTypes = map[string]string{
	"":                                   typeNone,
	leadgridapi.EventDossierCreated:      leadgridapi.EventDossierCreated,
	leadgridapi.EventDossierUpdated:      leadgridapi.EventDossierUpdated,
	leadgridapi.EventDossierStageChanged: leadgridapi.EventDossierStageChanged,
	leadgridapi.EventDossierDeleted:      leadgridapi.EventDossierDeleted,
	leadgridapi.EventNoteCreated:         leadgridapi.EventNoteCreated,
}

func typeLabel(eventType string) string {
	if label, known := knownTypes[eventType]; known {
		return label
	}
	return typeOther
}

// rejectionReasons name why a signature was not accepted.
var rejectionReasons = map[error]string{
	leadgridapi.ErrNoSignature:        "missing",
	leadgridapi.ErrMalformedSignature: "malformed",
	leadgridapi.ErrSignatureTime:      "time",
	leadgridapi.ErrWrongSignature:     "wrong",
}

type metrics struct {
	webhooks     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	lastAccepted prometheus.Gauge
	rejections   *prometheus.CounterVec
	flushEvents  prometheus.Histogram
	flushSeconds prometheus.Histogram
	flushErrors  prometheus.Counter
}

var upToTenSeconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// newMetrics registers the receiver's metrics, all counters at zero, so that an alert sees the first increase too.
func newMetrics(registerer prometheus.Registerer) *metrics {
	factory := promauto.With(registerer)
	m := &metrics{
		webhooks: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "leadgrid_webhooks_total",
			Help: "Webhooks answered, by result and event type.",
		}, []string{"result", "type"}),
		duration: factory.NewHistogramVec(metric.Seconds("leadgrid_webhook_duration_seconds",
			"From a webhook's header being read to its answer, by result.", upToTenSeconds), []string{"result"}),
		lastAccepted: factory.NewGauge(prometheus.GaugeOpts{
			Name: "leadgrid_webhook_last_accepted_timestamp_seconds",
			Help: "When this replica last answered 2xx to an event; 0 if it has not yet.",
		}),
		rejections: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "leadgrid_webhook_signature_rejections_total",
			Help: "Webhooks refused because of their signature, by reason.",
		}, []string{"reason"}),
		flushEvents: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "leadgrid_webhook_flush_events",
			Help:    "Events stored by one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		flushSeconds: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "leadgrid_webhook_flush_duration_seconds",
			Help:    "How long a transaction that stores events takes, attempts that failed included.",
			Buckets: upToTenSeconds,
		}),
		flushErrors: factory.NewCounter(prometheus.CounterOpts{
			Name: "leadgrid_webhook_flush_errors_total",
			Help: "Transactions that were given up, and whose events were refused.",
		}),
	}
	for _, r := range acceptedResults {
		m.webhooks.WithLabelValues(string(r), typeOther)
		for _, label := range knownTypes {
			m.webhooks.WithLabelValues(string(r), label)
		}
	}
	for _, r := range refusedResults {
		m.webhooks.WithLabelValues(string(r), typeNone)
	}
	for _, reason := range rejectionReasons {
		m.rejections.WithLabelValues(reason)
	}
	return m
}

// waitingGauge shows the queue before the database.
func waitingGauge(intake *events.Intake) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "leadgrid_webhook_events_waiting",
		Help: "Authentic events waiting for the transaction that will store them.",
	}, func() float64 { return float64(intake.Waiting()) })
}

func (m *metrics) flushed(f events.Flush) {
	m.flushEvents.Observe(float64(f.Events))
	m.flushSeconds.Observe(f.Duration.Seconds())
	if f.Err != nil {
		m.flushErrors.Inc()
	}
}

func (m *metrics) observe(a answer, took time.Duration) {
	m.webhooks.WithLabelValues(string(a.result), typeLabel(a.event.Type)).Inc()
	m.duration.WithLabelValues(string(a.result)).Observe(took.Seconds())
	switch {
	case a.err == nil:
		m.lastAccepted.SetToCurrentTime()
	case a.result == resultUnsigned:
		m.rejections.WithLabelValues(rejectionReason(a.err)).Inc()
	}
}

func rejectionReason(err error) string {
	for sentinel, reason := range rejectionReasons {
		if errors.Is(err, sentinel) {
			return reason
		}
	}
	return "wrong"
}
