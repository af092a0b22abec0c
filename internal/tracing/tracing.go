// Package tracing follows a webhook to the requests it caused, as OpenTelemetry traces, if OTEL_* asks for them.
//
// A trace begins with an authentic webhook. It continues through the transaction that stores the event and the River job,
// whose metadata carries it, to the requests that the job sends to LeadGrid. Nothing else begins a trace: neither
// strangers' requests nor sweeps, whose traces would hold thousands of requests. Attributes are ids, statuses and counts,
// never an error's text, which may quote somebody (promise 14).
package tracing

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// stopTimeout bounds sending the remaining spans when a program ends.
const stopTimeout = 5 * time.Second

var tracer = otel.Tracer("github.com/leadgrid-sync/leadgrid-sync")

// Start sends the program's spans from now on, if the settings ask for that; stop sends the remaining ones. OpenTelemetry's
// SDK itself reads the sampler, the limits and all other OTEL_* variables.
func Start(wanted settings.Tracing, service, version string, log *slog.Logger) (stop func(), err error) {
	url := wanted.URL()
	if url == "" {
		return func() {}, nil
	}
	described, err := resource.New(context.Background(), resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithFromEnv()) // which wins
	if err != nil {
		return nil, err
	}
	provider := sdk.NewTracerProvider(sdk.WithResource(described), sdk.WithBatcher(&exporter{url: url, headers: wanted.Headers, log: log}))
	otel.SetTracerProvider(provider)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Debug("OpenTelemetry", slog.Any("error", err)) }))
	log.Info("sending traces")
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		_ = provider.Shutdown(ctx) // the exporter has said what was wrong
	}, nil
}

// Webhook begins the trace of an authentic webhook that arrived at a certain time. It ignores the sender's trace headers, which
// would decide what is sampled here.
func Webhook(ctx context.Context, at time.Time) (context.Context, trace.Span) {
	return tracer.Start(ctx, "webhook", trace.WithNewRoot(), trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer))
}

// Of returns the span of a context. It is not valid without tracing.
func Of(ctx context.Context) trace.SpanContext { return trace.SpanContextFromContext(ctx) }

// Flush begins the span of a transaction that stores the events of several webhooks. It belongs to the first webhook's trace
// and links to the others'.
func Flush(ctx context.Context, webhooks []trace.SpanContext) (context.Context, trace.Span) {
	if len(webhooks) == 0 {
		return ctx, trace.SpanFromContext(ctx)
	}
	var links []trace.Link
	for _, other := range webhooks[1:] {
		links = append(links, trace.Link{SpanContext: other})
	}
	return tracer.Start(trace.ContextWithSpanContext(ctx, webhooks[0]), "store events", trace.WithLinks(links...))
}

// Job begins the span of an attempt of a River job that was inserted with [Metadata]. Other jobs get none.
func Job(ctx context.Context, kind string, metadata []byte) (context.Context, trace.Span) {
	carried := propagation.MapCarrier{}
	var known struct {
		Parent string `json:"traceparent"`
	}
	if json.Unmarshal(metadata, &known) == nil {
		carried.Set("traceparent", known.Parent)
	}
	inserter := propagation.TraceContext{}.Extract(ctx, carried)
	if !Of(inserter).IsValid() {
		return ctx, trace.SpanFromContext(ctx)
	}
	return tracer.Start(inserter, kind, trace.WithSpanKind(trace.SpanKindConsumer))
}

// Metadata returns the metadata that makes a River job part of the context's trace, or nil if there is no trace.
func Metadata(ctx context.Context) []byte {
	carried := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carried)
	if len(carried) == 0 {
		return nil
	}
	metadata, err := json.Marshal(carried)
	if err != nil {
		return nil // texts can be encoded
	}
	return metadata
}

// Request begins the span of a request to LeadGrid, if the context is traced. The trace is not sent to LeadGrid.
func Request(ctx context.Context, operation string) trace.Span {
	if !Of(ctx).IsValid() {
		return trace.SpanFromContext(ctx)
	}
	_, span := tracer.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient))
	return span
}

// Failed marks a span as failed, without a description.
func Failed(span trace.Span) { span.SetStatus(codes.Error, "") }
