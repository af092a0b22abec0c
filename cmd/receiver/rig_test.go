package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

const testSecret = "whsec_test"

// rig is a running receiver, the same program as main's, with its database.
type rig struct {
	addresses
	pool *pgxpool.Pool
}

func startRig(t *testing.T) *rig {
	t.Helper()
	url := pgtest.URL(t)
	return &rig{addresses: startReceiver(t, testConfig(url)), pool: pgtest.Open(t, url)}
}

// testConfig is what loadConfig would return, with ports that are free.
func testConfig(databaseURL string) config {
	return config{
		Database: settings.Database{URL: settings.NewSecret(databaseURL), Schema: "leadgrid", QueueSchema: "leadgrid_queue", MaxConns: 4},
		Webhook:  settings.Webhook{Secret: settings.NewSecret(testSecret), Tolerance: leadgridapi.DefaultTolerance},
		Listen:   settings.Listen{Addr: "127.0.0.1:0"},
		Admin:    settings.Admin{Addr: "127.0.0.1:0"},
		Log:      settings.Log{Format: "json"},
	}
}

// startReceiver runs the program until the test ends, when it must end well.
func startReceiver(t *testing.T, config config) addresses {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	listening, ended := make(chan addresses, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, config, t.Output(), func(a addresses) { listening <- a })
	}()
	select {
	case a := <-listening:
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the receiver ended with: %v", err)
			}
		})
		return a
	case err := <-ended:
		stop()
		t.Fatalf("the receiver did not start: %v", err)
		return addresses{}
	}
}

// event is a body that no other test has.
func event(id string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":"dos_1"}}`, id)
}

// sign is the right signature header of a body.
func sign(body []byte) string { return leadgridapi.Sign(testSecret, time.Now(), body) }

// post sends a signed body as LeadGrid would. Without an answer the test fails, and the response is empty.
func (a addresses) post(t testing.TB, body []byte) *http.Response {
	t.Helper()
	response, err := a.send(t.Context(), http.MethodPost, webhooksPath, body, leadgridapi.SignatureHeader, sign(body))
	if err != nil {
		t.Error(err)
		return new(http.Response)
	}
	return response
}

// send sends a request with headers given as name, value, …; its answer's body has been read.
func (a addresses) send(ctx context.Context, method, path string, body []byte, headers ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+a.webhooks+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response, err
}

// ready asks /readyz; the error says what is missing.
func (a addresses) ready(t *testing.T) error {
	t.Helper()
	status, text := a.ask(t, "/readyz")
	if status != http.StatusOK {
		return errors.New(text)
	}
	return nil
}

// ask reads a page of the admin server.
func (a addresses) ask(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + a.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// dial opens a connection for requests that no client would make. The test fails rather than hangs on it.
func (a addresses) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", a.webhooks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// head is a signed request up to its body.
func head(body []byte, framing string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: receiver\r\n%s: %s\r\n%s\r\n\r\n", webhooksPath, leadgridapi.SignatureHeader, sign(body), framing)
}

// status reads an answer: its status, or 0 when the connection was closed without one.
func status(t *testing.T, conn net.Conn) int {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Error("neither an answer nor an end of the connection")
		}
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// kept says what is stored of a body: nothing, an event, or an odd one.
func (r *rig) kept(t *testing.T, body []byte) (kept string) {
	t.Helper()
	digest := sha256.Sum256(body)
	err := r.pool.QueryRow(t.Context(), `
		SELECT coalesce((SELECT CASE
			WHEN odd IS NULL AND payload IS NOT NULL AND body IS NULL THEN 'event'
			WHEN odd <> '' AND payload IS NULL AND body = $2 THEN 'odd'
			ELSE 'damaged' END FROM webhook_events WHERE digest = $1), 'nothing')`, digest[:], body).Scan(&kept)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}
