package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	ready := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(ready) }))
	defer server.Close()
	t.Setenv("ADMIN_ADDR", server.Listener.Addr().String())
	served := 0
	run := func(args ...string) (string, error) {
		var out strings.Builder
		err := command(t.Context(), args, &out, func(context.Context) error { served++; return nil })
		return out.String(), err
	}
	if _, err := run(); err != nil || served != 1 {
		t.Errorf("no arguments: %v, served %d times", err, served)
	}
	if out, err := run("--version"); err != nil || !strings.Contains(out, "(commit ") {
		t.Errorf("--version: %q, %v", out, err)
	}
	if out, err := run("--help"); err != nil || out != usage {
		t.Errorf("--help: %q, %v", out, err)
	}
	for _, args := range [][]string{{"healthcheck"}, {"healthcheck", server.URL + "/readyz"}} {
		ready = http.StatusOK
		if _, err := run(args...); err != nil {
			t.Errorf("%v while ready: %v", args, err)
		}
		ready = http.StatusServiceUnavailable
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("%v while unready: %v", args, err)
		}
	}
	if _, err := run("serve"); err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("serve: %v", err)
	}
	if served != 1 {
		t.Errorf("served %d times, want once", served)
	}
}

func TestExitCodes(t *testing.T) {
	_, setting := loadConfig() // without any
	for err, want := range map[error]int{setting: 2, usageError("what?"): 2, io.ErrUnexpectedEOF: 1} {
		if got := exitCode(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}
