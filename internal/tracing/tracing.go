// Package tracing follows a webhook to the rows it brought, as OpenTelemetry traces, where OTEL_* asks for them.
//
// A trace begins with an authentic webhook. It goes on through the transaction that stores the event, through the River
// job, in whose metadata it travels, to the requests that the job sends to LeadGrid. Nothing else begins one: neither
// strangers' requests nor sweeps, which would make traces of thousands of requests. Attributes are ids, statuses and
// counts; no error's text is among them, as it may quote somebody (promise 14).
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

// stopTimeout bounds sending what is left when a program ends.
const stopTimeout = 5 * time.Second

var tracer = otel.Tracer("github.com/leadgrid-sync/leadgrid-sync")

// Start sends the program's spans from now on, if they are wanted; stop sends what is left. The sampler, the limits and
// what else OTEL_* may say is read by OpenTelemetry's SDK.
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

// Webhook begins a trace, of an authentic webhook that came at a certain time. What the sender says about traces is not
// asked for: it would decide what is sampled here.
func Webhook(ctx context.Context, at time.Time) (context.Context, trace.Span) {
	return tracer.Start(ctx, "webhook", trace.WithNewRoot(), trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer))
}

// Of is the span that a context is in; it is not valid without tracing.
func Of(ctx context.Context) trace.SpanContext { return trace.SpanContextFromContext(ctx) }

// Flush is of a transaction that stores the events of several webhooks: a part of the first one's trace, linked to the
// others.
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

// Job is of an attempt of a River job that was inserted with [Metadata]; any other job has none.
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

// Metadata is what makes a River job part of the trace that the context is in: nil where there is none.
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

// Request is of a request to LeadGrid, for a job that is traced. LeadGrid is not told of the trace.
func Request(ctx context.Context, operation string) trace.Span {
	if !Of(ctx).IsValid() {
		return trace.SpanFromContext(ctx)
	}
	_, span := tracer.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient))
	return span
}

// Failed marks a span, without a text.
func Failed(span trace.Span) { span.SetStatus(codes.Error, "") }
