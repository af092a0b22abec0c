package main

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"

	"github.com/leadgrid-sync/leadgrid-sync/internal/metric"
	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
)

// operations maps LeadGrid's operations to their names in metrics, which are those of the client's methods.
var operations = map[string]string{
	"GET /dossiers":                               "list_dossiers",
	"POST /dossiers":                              "create_dossier",
	"GET /dossiers/{id}":                          "get_dossier",
	"PATCH /dossiers/{id}":                        "update_dossier",
	"DELETE /dossiers/{id}":                       "archive_dossier",
	"POST /dossiers/{id}/cv":                      "upload_cv",
	"GET /contacts":                               "list_contacts",
	"POST /contacts":                              "create_contact",
	"GET /contacts/{id}":                          "get_contact",
	"PATCH /contacts/{id}":                        "update_contact",
	"DELETE /contacts/{id}":                       "delete_contact",
	"GET /dossiers/{id}/contacts":                 "list_links",
	"POST /dossiers/{id}/contacts":                "link_contact",
	"DELETE /dossiers/{id}/contacts/{contact_id}": "unlink_contact",
	"GET /flows":                                  "list_flows",
	"GET /flows/{id}/stages":                      "list_stages",
	"GET /dossiers/{id}/notes":                    "list_notes",
	"POST /dossiers/{id}/notes":                   "add_note",
}

const operationOther = "other"

// apiMetrics counts and times requests. It is an http.RoundTripper below the client, which sees every request once, and the end of
// every answer.
type apiMetrics struct {
	base     string // path of the API, which operations leave out
	mux      *http.ServeMux
	next     http.RoundTripper
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// watchAPI returns a client for LeadGrid's API at baseURL whose requests are counted.
func watchAPI(baseURL string, registerer prometheus.Registerer) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16 // all requests go to one host
	factory := promauto.With(registerer)
	m := &apiMetrics{
		mux:  http.NewServeMux(),
		next: transport,
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "leadgrid_api_requests_total",
			Help: "Requests sent to LeadGrid, by operation and HTTP status, or error where no answer came.",
		}, []string{"operation", "code"}),
		duration: factory.NewHistogramVec(metric.Seconds("leadgrid_api_request_duration_seconds",
			"From sending a request to LeadGrid to the end of its answer.",
			[]float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}), []string{"operation"}),
	}
	if u, err := url.Parse(baseURL); err == nil { // or the client says what is wrong with it
		m.base = strings.TrimRight(u.EscapedPath(), "/")
	}
	for pattern, operation := range operations {
		m.mux.Handle(pattern, http.NotFoundHandler())
		m.duration.WithLabelValues(operation)
	}
	return &http.Client{Transport: m}
}

// RoundTrip implements [http.RoundTripper].
func (m *apiMetrics) RoundTrip(request *http.Request) (*http.Response, error) {
	operation, began := m.operation(request), time.Now()
	span := tracing.Request(request.Context(), operation)
	response, err := m.next.RoundTrip(request)
	if err != nil {
		tracing.Failed(span)
		span.End()
		m.requests.WithLabelValues(operation, "error").Inc()
		m.duration.WithLabelValues(operation).Observe(time.Since(began).Seconds())
		return nil, err
	}
	m.requests.WithLabelValues(operation, strconv.Itoa(response.StatusCode)).Inc()
	span.SetAttributes(attribute.String("http.request.method", request.Method), attribute.Int("http.response.status_code", response.StatusCode))
	if response.StatusCode >= http.StatusBadRequest {
		tracing.Failed(span)
	}
	response.Body = &timedBody{ReadCloser: response.Body, ended: sync.OnceFunc(func() {
		span.End()
		m.duration.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	})}
	return response, nil
}

func (m *apiMetrics) operation(request *http.Request) string {
	path := strings.TrimPrefix(request.URL.EscapedPath(), m.base)
	target, err := url.Parse(path)
	if err != nil {
		return operationOther
	}
	_, pattern := m.mux.Handler(&http.Request{Method: request.Method, URL: target})
	if operation, ok := operations[pattern]; ok {
		return operation
	}
	return operationOther
}

// timedBody calls ended when the answer has been read or closed.
type timedBody struct {
	io.ReadCloser
	ended func()
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.ended()
	}
	return n, err
}

func (b *timedBody) Close() error {
	b.ended()
	return b.ReadCloser.Close()
}
