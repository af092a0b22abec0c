package simulate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// Secret is what webhooks to a Receiver are signed with.
const Secret = "simulated-secret"

// Receiver is the real verifier and the real intake behind a plain server, for tests in one process: the program's own
// receiver is a main package.
type Receiver struct {
	*httptest.Server
	intake *events.Intake
}

// NewReceiver starts a receiver that stores events through pool.
func NewReceiver(pool *pgxpool.Pool, queueSchema string) (*Receiver, error) {
	return newReceiver(pool, queueSchema, func(context.Context, []byte) {})
}

// newReceiver starts a receiver that tells of each event it is about to ack.
func newReceiver(pool *pgxpool.Pool, queueSchema string, acking func(ctx context.Context, body []byte)) (*Receiver, error) {
	inserter, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: queueSchema, FetchCooldown: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("set up the queue: %w", err)
	}
	verifier, err := leadgridapi.NewVerifier([]string{Secret}, leadgridapi.DefaultTolerance)
	if err != nil {
		return nil, fmt.Errorf("set up the verifier: %w", err)
	}
	intake := events.NewIntake(pool, inserter, events.Options{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || verifier.Verify(req.Header.Values(leadgridapi.SignatureHeader), body, time.Now()) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if _, err := intake.Add(req.Context(), events.Received{Body: body, At: time.Now()}); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		acking(req.Context(), body)
	}))
	return &Receiver{Server: server, intake: intake}, nil
}

// Close stops the receiver after the events it has taken are stored.
func (r *Receiver) Close() {
	r.Server.Close()
	r.intake.Close()
}
