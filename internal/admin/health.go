package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
)

// Check is one condition for a program to be ready.
type Check struct {
	Name    string
	Timeout time.Duration               // 2 s if zero
	Probe   func(context.Context) error // nil when all is well; /readyz shows the error's text
}

const checkTimeout = 2 * time.Second

// healthz answers that the program runs, and checks nothing: a database that is down is no reason to restart it.
func healthz(w http.ResponseWriter, _ *http.Request) {
	plainText(w)
	fmt.Fprintln(w, "ok")
}

// readyz runs all checks at once and answers 503 if any fails, with a line for each.
func readyz(checks []Check, stopping *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plainText(w)
		if stopping.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		answers := ask(r.Context(), checks)
		status, lines := http.StatusOK, new(strings.Builder)
		for i, check := range checks {
			if answers[i] == nil {
				fmt.Fprintf(lines, "%s: ok\n", check.Name)
				continue
			}
			status = http.StatusServiceUnavailable
			fmt.Fprintf(lines, "%s: %s\n", check.Name, strings.Join(strings.Fields(redact.Text(answers[i])), " ")) // on one line
		}
		w.WriteHeader(status)
		if len(checks) == 0 {
			lines.WriteString("ok\n")
		}
		_, _ = w.Write([]byte(lines.String()))
	})
}

// ask runs all checks at once.
func ask(ctx context.Context, checks []Check) []error {
	answers := make([]error, len(checks))
	var wait sync.WaitGroup
	for i, check := range checks {
		wait.Go(func() { answers[i] = check.run(ctx) })
	}
	wait.Wait()
	return answers
}

// readyGauge exports what /readyz would answer at the time of the scrape.
func readyGauge(checks []Check, stopping *atomic.Bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "leadgrid_ready",
		Help: "1 if all that /readyz asks says yes at this scrape, otherwise 0.",
	}, func() float64 {
		if stopping.Load() || errors.Join(ask(context.Background(), checks)...) != nil {
			return 0
		}
		return 1
	})
}

// run returns when the timeout is over even if the probe does not.
func (c Check) run(ctx context.Context) error {
	timeout := cmp.Or(c.Timeout, checkTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- c.Probe(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func plainText(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
}
