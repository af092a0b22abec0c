package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestProbe(t *testing.T) {
	var problem error
	checks := []Check{{Name: "database", Probe: func(context.Context) error { return problem }}}
	server, base, stop := serve(t, Config{Checks: checks}, nil)
	url := readyURL(server.Addr())
	if url != base+"/readyz" {
		t.Errorf("ReadyURL = %s, want %s/readyz", url, base)
	}
	if err := probe(t.Context(), url); err != nil {
		t.Errorf("ready: %v", err)
	}
	problem = errors.New("no route")
	if err := probe(t.Context(), url); err == nil || !strings.HasSuffix(err.Error(), "answered 503 Service Unavailable: database: no route") {
		t.Errorf("unready: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := probe(t.Context(), url); err == nil {
		t.Error("nobody there: no error")
	}
}

func TestReadyURL(t *testing.T) {
	for addr, want := range map[string]string{
		":9090": "http://localhost:9090/readyz", "0.0.0.0:1": "http://localhost:1/readyz", "[::]:1": "http://localhost:1/readyz",
		"10.0.0.1:1": "http://10.0.0.1:1/readyz", "[::1]:1": "http://[::1]:1/readyz",
	} {
		if got := readyURL(addr); got != want {
			t.Errorf("readyURL(%q) = %s, want %s", addr, got, want)
		}
	}
}
