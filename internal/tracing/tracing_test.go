package tracing

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// record keeps the spans of a test; the package's own tracer does nothing until somebody starts it.
func record(t *testing.T) *tracetest.InMemoryExporter {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	before := tracer
	tracer = sdk.NewTracerProvider(sdk.WithSyncer(kept)).Tracer("test")
	t.Cleanup(func() { tracer = before })
	return kept
}

// TestFlushJoinsWebhooks: of several webhooks in one transaction the first one's trace goes on, linked to the others.
func TestFlushJoinsWebhooks(t *testing.T) {
	kept := record(t)
	stranger := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
	first, one := Webhook(stranger, time.Now())
	second, two := Webhook(t.Context(), time.Now())
	flush, span := Flush(t.Context(), []trace.SpanContext{Of(first), Of(second)})
	metadata := Metadata(flush)
	span.End()
	job, working := Job(t.Context(), "leadgrid_events", metadata)
	asked := Request(job, "get_dossier")
	asked.End()
	working.End()
	one.End()
	two.End()

	spans := kept.GetSpans()
	if len(spans) != 5 {
		t.Fatalf("%d spans, want 5", len(spans))
	}
	if Of(first).TraceID() == Of(stranger).TraceID() {
		t.Error("a sender decides which trace a webhook belongs to")
	}
	for i, parent := range []trace.SpanID{Of(first).SpanID(), Of(job).SpanID(), Of(flush).SpanID()} {
		if spans[i].Parent.SpanID() != parent || spans[i].SpanContext.TraceID() != Of(first).TraceID() {
			t.Errorf("%s is not part of what it should be", spans[i].Name)
		}
	}
	if links := spans[0].Links; len(links) != 1 || links[0].SpanContext.SpanID() != Of(second).SpanID() {
		t.Errorf("the transaction has links %v, want one to the second webhook", links)
	}
}

// TestNobodyAsked: without a trace to go on with there are no spans, whatever a job's metadata is.
func TestNobodyAsked(t *testing.T) {
	kept := record(t)
	for _, metadata := range []string{"", "{}", "null", "7", "{", `{"traceparent":"00-0-0-01"}`, `{"traceparent":7}`} {
		ctx, span := Job(t.Context(), "leadgrid_events", []byte(metadata))
		Request(ctx, "get_dossier").End()
		if Metadata(ctx) != nil {
			t.Errorf("%q: its job would go on with a trace", metadata)
		}
		span.End()
	}
	_, span := Flush(t.Context(), nil)
	span.End()
	if n := len(kept.GetSpans()); n > 0 {
		t.Errorf("%d spans, want none", n)
	}
}

// TestExport sends spans to a collector, and looks at what it gets.
func TestExport(t *testing.T) {
	var got exportRequest
	status := http.StatusOK
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer a,b" {
			t.Errorf("the collector is asked for %s with %v", r.URL.Path, r.Header)
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	}))
	defer collector.Close()
	wanted := settings.Tracing{Endpoint: collector.URL + "/", Headers: settings.NewSecret("Authorization=Bearer%20a%2Cb,x=y")}
	var said strings.Builder
	e := &exporter{url: wanted.URL(), headers: wanted.Headers, log: slog.New(slog.NewTextHandler(&said, nil))}
	stub := tracetest.SpanStub{
		Name: "webhook", SpanKind: trace.SpanKindServer, StartTime: time.Unix(1, 2), EndTime: time.Unix(3, 4),
		SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd}}),
		Attributes:  []attribute.KeyValue{attribute.Int("n", 1), attribute.String("s", "x")},
	}
	spans := []sdk.ReadOnlySpan{stub.Snapshot()}
	if err := e.ExportSpans(t.Context(), spans); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got.ResourceSpans[0].ScopeSpans[0].Spans)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"traceId":"ab000000000000000000000000000000","spanId":"cd00000000000000","name":"webhook","kind":2,` +
		`"startTimeUnixNano":"1000000002","endTimeUnixNano":"3000000004",` +
		`"attributes":[{"key":"n","value":{"intValue":"1"}},{"key":"s","value":{"stringValue":"x"}}],"status":{}}]`
	if string(text) != want {
		t.Errorf("the collector gets\n%s\nwant\n%s", text, want)
	}

	status = http.StatusServiceUnavailable
	for range 2 {
		if err := e.ExportSpans(t.Context(), spans); err == nil {
			t.Error("a collector that refuses is not noticed")
		}
	}
	status = http.StatusOK
	if err := e.ExportSpans(context.Background(), spans); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "\n"); n != 2 {
		t.Errorf("it said %d things, want two:\n%s", n, said.String())
	}
}

func TestOffUnlessAskedFor(t *testing.T) {
	for want, wanted := range map[string][]settings.Tracing{
		"": {
			{}, {Exporter: "none", Endpoint: "http://otel:4318"}, {Disabled: true, TracesEndpoint: "http://otel:4318/x"},
		},
		"http://otel:4318/v1/traces":      {{Endpoint: "http://otel:4318"}, {Endpoint: "http://otel:4318/", Exporter: "otlp"}},
		"http://otel:4318/x":              {{TracesEndpoint: "http://otel:4318/x", Endpoint: "http://other"}},
		"http://localhost:4318/v1/traces": {{Exporter: "otlp"}},
	} {
		for _, one := range wanted {
			if got := one.URL(); got != want {
				t.Errorf("%+v goes to %q, want %q", one, got, want)
			}
		}
	}
	stop, err := Start(settings.Tracing{}, "x", "y", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if ctx, span := Webhook(t.Context(), time.Now()); Of(ctx).IsValid() || span.IsRecording() {
		t.Error("a trace begins although nobody asked for it")
	}
}
