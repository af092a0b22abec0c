package main

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
)

// statusKept is how long the page is cached: counting rows is not free, and many may look.
const statusKept = 2 * time.Second

// statusPage shows at a glance whether the mirror is correct and fresh and, if not, why.
type statusPage struct {
	read     func(context.Context) (*picture, error)
	promised map[string]time.Duration
	paused   bool // write-back
	build    string

	mu   sync.Mutex
	view view
	err  error
	at   time.Time
}

// picture is everything that the page shows.
type picture struct {
	state    *state
	tables   []tableStatus
	commands map[string]int64 // all there are, by state
	failures []failure
}

// failure is a job whose last attempt failed.
type failure struct {
	Job     int64
	Kind    string
	State   string
	Attempt int
	At      time.Time
	Error   string
	Next    time.Time
}

// picture reads everything that the page shows.
func (r *stateReader) picture(ctx context.Context) (*picture, error) {
	p := &picture{commands: map[string]int64{}}
	var err error
	if p.state, err = r.read(ctx); err != nil {
		return nil, err
	}
	if p.tables, err = readTables(ctx, r.pool); err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue(`SELECT state, count(*) FROM commands GROUP BY state`).Query(func(rows pgx.Rows) error {
		var state string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error { p.commands[state] = n; return nil })
		return err
	})
	batch.Queue(`
		SELECT id, kind, state::text, attempt, (last ->> 'at')::timestamptz, coalesce(last ->> 'error', ''), scheduled_at
		FROM (
			SELECT *, errors[array_upper(errors, 1)] AS last FROM ` + r.jobs + `
			WHERE (state IN ('available', 'pending', 'running', 'retryable', 'scheduled')
			       OR state = 'discarded' AND finalized_at > now() - interval '7 days') AND array_length(errors, 1) > 0
		) failed ORDER BY state = 'discarded' DESC, 5 DESC LIMIT 5`).Query(func(rows pgx.Rows) (err error) {
		p.failures, err = pgx.CollectRows(rows, pgx.RowToStructByPos[failure])
		return err
	})
	if err := r.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("read what failed: %w", err)
	}
	return p, nil
}

//go:embed statuspage.html
var statusHTML string

var statusTemplate = template.Must(template.New("status").Parse(statusHTML))

// pageHeaders lock the page down: it loads nothing, runs nothing, and cannot be framed.
func pageHeaders(header http.Header) {
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
}

// ServeHTTP implements [http.Handler].
func (s *statusPage) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	shown, err := s.current(request.Context())
	pageHeaders(response.Header())
	if err != nil {
		response.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = statusTemplate.Execute(response, shown) // fails only if the browser has gone away
}

func (s *statusPage) current(ctx context.Context) (view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() && time.Since(s.at) < statusKept {
		return s.view, s.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout) // others share the answer
	defer cancel()
	p, err := s.read(ctx)
	if err != nil {
		s.view = view{
			Level: bad, Verdict: "The mirror's database does not answer", Problems: []string{redact.Text(err)},
			At: time.Now().UTC().Format(timeLayout), Build: s.build,
		}
	} else {
		s.view = newView(p, s.promised, s.paused)
		s.view.Build = s.build
	}
	s.err, s.at = err, time.Now()
	return s.view, err
}

// closedPage takes the status page's place while ADMIN_PASSWORD is not set.
func closedPage(response http.ResponseWriter, _ *http.Request) {
	pageHeaders(response.Header())
	fmt.Fprint(response, `<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>leadgrid-sync</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}</style>
<h1>leadgrid-sync</h1><p>Set ADMIN_PASSWORD to see the status page and the jobs here. <code>worker status</code> needs none.</p>
<p><a href="/readyz">Readiness</a> · <a href="/metrics">Metrics</a></p></html>`)
}
