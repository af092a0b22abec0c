package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// collector takes the programs' traces.
type collector struct {
	mu    sync.Mutex
	text  strings.Builder
	spans map[string]collectedSpan // by id
}

type collectedSpan struct {
	Trace   string `json:"traceId"`
	ID      string `json:"spanId"`
	Parent  string `json:"parentSpanId"`
	Name    string
	Program string
}

// collectTraces has the programs that start from now on send their traces.
func (w *world) collectTraces(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: map[string]collectedSpan{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.take(t, body)
	}))
	t.Cleanup(server.Close)
	w.env["OTEL_EXPORTER_OTLP_ENDPOINT"], w.env["OTEL_BSP_SCHEDULE_DELAY"] = server.URL, "50"
	return c
}

func (c *collector) take(t *testing.T, body []byte) {
	var sent struct {
		ResourceSpans []struct {
			Resource struct {
				Attributes []struct {
					Key   string
					Value struct{ StringValue string }
				}
			}
			ScopeSpans []struct{ Spans []collectedSpan }
		}
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Errorf("not OTLP: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(body)
	for _, from := range sent.ResourceSpans {
		for _, scope := range from.ScopeSpans {
			for _, one := range scope.Spans {
				for _, attribute := range from.Resource.Attributes {
					if attribute.Key == "service.name" {
						one.Program = attribute.Value.StringValue
					}
				}
				c.spans[one.ID] = one
			}
		}
	}
}

// said is all that the collector was told.
func (c *collector) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// paths are the traces from their roots to the spans of that name, each as program and name of its spans, by trace.
func (c *collector) paths(name string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]string{}
	for _, span := range c.spans {
		if span.Name != name {
			continue
		}
		path := ""
		for at, ok := span, true; ok; at, ok = c.spans[at.Parent] {
			path = strings.TrimPrefix(at.Program, "leadgrid-") + ": " + at.Name + " > " + path
			if at.Trace != span.Trace {
				path = "another trace: " + path
			}
		}
		found[span.Trace] = strings.TrimSuffix(path, " > ")
	}
	return found
}
