package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// exporter sends spans in OTLP's JSON encoding (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), which
// every collector accepts that accepts OTLP over HTTP. OpenTelemetry's own exporter brings gRPC along, which adds 10 MB to the
// receiver's 24. Spans that cannot be sent are dropped.
type exporter struct {
	url     string
	headers settings.Secret
	log     *slog.Logger
	failing atomic.Bool // logged when it begins and when it ends
}

// exportTimeout bounds one request.
const exportTimeout = 10 * time.Second

// ExportSpans implements [sdk.SpanExporter].
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.send(ctx, spans)
	switch {
	case err != nil && !e.failing.Swap(true):
		e.log.Warn("traces cannot be sent", slog.Any("error", err))
	case err == nil && e.failing.Swap(false):
		e.log.Info("traces can be sent again")
	}
	return err
}

// Shutdown implements [sdk.SpanExporter].
func (e *exporter) Shutdown(context.Context) error { return nil }

func (e *exporter) send(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	body, err := json.Marshal(encode(spans))
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	for header := range strings.SplitSeq(e.headers.Value(), ",") {
		name, value, _ := strings.Cut(header, "=")
		if unescaped, err := url.PathUnescape(strings.TrimSpace(value)); err == nil && name != "" {
			request.Header.Set(strings.TrimSpace(name), unescaped)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answers %s", response.Status)
	}
	return nil
}

// OTLP's ExportTraceServiceRequest, as far as our spans need it.
type (
	exportRequest struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   encodedResource `json:"resource"`
		ScopeSpans []scopeSpans    `json:"scopeSpans"`
	}
	encodedResource struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeSpans struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []encodedSpan `json:"spans"`
	}
	encodedSpan struct {
		TraceID      string        `json:"traceId"`
		SpanID       string        `json:"spanId"`
		ParentSpanID string        `json:"parentSpanId,omitempty"`
		Name         string        `json:"name"`
		Kind         int           `json:"kind"`
		Start        string        `json:"startTimeUnixNano"`
		End          string        `json:"endTimeUnixNano"`
		Attributes   []keyValue    `json:"attributes,omitempty"`
		Links        []encodedLink `json:"links,omitempty"`
		Status       encodedStatus `json:"status"`
	}
	encodedLink struct {
		TraceID string `json:"traceId"`
		SpanID  string `json:"spanId"`
	}
	encodedStatus struct {
		Code int `json:"code,omitempty"`
	}
	keyValue struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
)

func encode(spans []sdk.ReadOnlySpan) exportRequest {
	if len(spans) == 0 {
		return exportRequest{}
	}
	all := scopeSpans{}
	all.Scope.Name = spans[0].InstrumentationScope().Name // there is one tracer
	for _, span := range spans {
		encoded := encodedSpan{
			TraceID: span.SpanContext().TraceID().String(), SpanID: span.SpanContext().SpanID().String(),
			Name: span.Name(), Kind: int(span.SpanKind()), // which are numbered alike
			Start: nanoseconds(span.StartTime()), End: nanoseconds(span.EndTime()), Attributes: attributes(span.Attributes()),
		}
		if parent := span.Parent(); parent.IsValid() {
			encoded.ParentSpanID = parent.SpanID().String()
		}
		for _, link := range span.Links() {
			encoded.Links = append(encoded.Links, encodedLink{link.SpanContext.TraceID().String(), link.SpanContext.SpanID().String()})
		}
		if span.Status().Code == codes.Error {
			encoded.Status.Code = 2 // STATUS_CODE_ERROR
		}
		all.Spans = append(all.Spans, encoded)
	}
	return exportRequest{[]resourceSpans{{encodedResource{attributes(spans[0].Resource().Attributes())}, []scopeSpans{all}}}}
}

func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// attributes encodes strings and integers; our spans have no others.
func attributes(all []attribute.KeyValue) (encoded []keyValue) {
	for _, one := range all {
		value := map[string]any{"stringValue": one.Value.String()}
		if one.Value.Type() == attribute.INT64 {
			value = map[string]any{"intValue": one.Value.String()}
		}
		encoded = append(encoded, keyValue{string(one.Key), value})
	}
	return encoded
}
