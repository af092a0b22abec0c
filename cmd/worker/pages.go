package main

import (
	"context"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"riverqueue.com/riverui"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// riverPrefix is where River UI is.
const riverPrefix = "/river"

// pages adds the status page, and River UI where a password protects it.
func (w *worker) pages(ops *admin.Server, config settings.Admin) (starter, error) {
	guarded := config.Password.IsSet()
	ops.Handle("GET /{$}", &statusPage{worker: w, River: guarded})
	if !guarded {
		return nothing{}, nil
	}
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(w.engine.River, nil),
		Logger:    slog.New(slog.DiscardHandler), // one line a request, and our own jobs' lines say what matters
		Prefix:    riverPrefix,
	})
	if err != nil {
		return nil, fmt.Errorf("set up River UI: %w", err)
	}
	page := admin.Protect(config.User, config.Password.Value, w.once(ui))
	ops.Handle(riverPrefix+"/", page)
	ops.Handle(riverPrefix, http.RedirectHandler(riverPrefix+"/", http.StatusFound))
	return ui, nil
}

// statusPage shows what `worker status` prints. It asks the database once a second at most, whoever asks it.
type statusPage struct {
	*worker
	River bool

	mu   sync.Mutex
	text string
	err  error
	at   time.Time
}

var statusTemplate = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>leadgrid-sync</title>
<style>body{font:15px/1.4 ui-monospace,monospace;margin:2rem;color-scheme:light dark}</style>
<pre>{{.Text}}</pre>
<p>{{if .River}}<a href="/river/">jobs</a> · {{end}}<a href="/readyz">readiness</a> · <a href="/metrics">metrics</a></p>
`))

func (s *statusPage) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	text, err := s.current(request.Context())
	response.Header().Set("Content-Type", "text/html; charset=utf-8")
	response.Header().Set("Cache-Control", "no-store")
	if err != nil {
		text = err.Error()
		response.WriteHeader(http.StatusServiceUnavailable)
	}
	// An error here is the browser's having gone away.
	_ = statusTemplate.Execute(response, struct {
		Text  string
		River bool
	}{text, s.River})
}

func (s *statusPage) current(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) < time.Second {
		return s.text, s.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // others share the answer
	defer cancel()
	var text strings.Builder
	status, err := readStatus(ctx, s.pool, s.engine.Budget)
	if err == nil {
		status.print(&text)
	}
	s.text, s.err, s.at = text.String(), err, time.Now()
	return s.text, s.err
}
