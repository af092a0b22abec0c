package leadgridapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

const testKey = "lg_live_test"

// serve starts a server with a handler and returns a client for it.
func serve(t *testing.T, h http.HandlerFunc, opts ...leadgridapi.Option) *leadgridapi.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := leadgridapi.New(server.URL+"/api/v1", testKey, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// answer is a handler that always says the same.
func answer(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for pair := range slices.Chunk(headers, 2) {
			w.Header().Set(pair[0], pair[1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var pdf = []byte("%PDF-1.7\n%…")

func TestUploadCVTakesAnyAnswer(t *testing.T) {
	for _, body := range []string{"", "{}", `{"data": null}`, `{"data": "dossiers/x.pdf"}`, "<html>"} {
		client := serve(t, answer(201, body))
		d, err := client.UploadCV(t.Context(), "x", leadgridapi.CV{Data: pdf})
		if err != nil || d.Raw != nil {
			t.Errorf("%q: got %+v, %v", body, d, err)
		}
	}
}

// What the client can know to be wrong must not cost a request.
func TestInvalidInputIsNotSent(t *testing.T) {
	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	large := append(slices.Clone(pdf), make([]byte, leadgridapi.MaxCV)...)
	notPDF := leadgridapi.CV{Filename: "cv.pdf", Data: []byte("PK\x03\x04")}
	calls := map[string]func(context.Context) error{
		"empty id": func(ctx context.Context) error { _, err := client.Dossier(ctx, ""); return err },
		"dot":      func(ctx context.Context) error { return client.DeleteContact(ctx, ".") },
		"dots":     func(ctx context.Context) error { return client.UnlinkContact(ctx, "x", "..") },
		"list": func(ctx context.Context) error {
			_, err := client.ListNotes(ctx, "", leadgridapi.PageRequest{})
			return err
		},
		"no changes": func(ctx context.Context) error { _, err := client.UpdateDossier(ctx, "x", nil); return err },
		"no JSON": func(ctx context.Context) error {
			_, err := client.UpdateDossier(ctx, "x", leadgridapi.Changes{"name": func() {}})
			return err
		},
		"no number": func(ctx context.Context) error {
			_, err := client.CreateDossier(ctx, leadgridapi.DossierInput{DealSize: "12,50"}, &leadgridapi.CV{Data: pdf})
			return err
		},
		"not a PDF": func(ctx context.Context) error { _, err := client.UploadCV(ctx, "x", notPDF); return err },
		"raw, not a PDF": func(ctx context.Context) error {
			_, err := client.UploadCVRaw(ctx, "x", notPDF.Data)
			return err
		},
		"create, not a PDF": func(ctx context.Context) error {
			_, err := client.CreateDossier(ctx, leadgridapi.DossierInput{}, &notPDF)
			return err
		},
		"large": func(ctx context.Context) error { _, err := client.UploadCVRaw(ctx, "x", large); return err },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			if err := call(t.Context()); !errors.Is(err, leadgridapi.ErrInvalidInput) || leadgridapi.Sent(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLargestCV(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(io.Discard, r.Body); n != leadgridapi.MaxCV {
			t.Errorf("got %d bytes", n)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if _, err := client.UploadCVRaw(t.Context(), "x", append(slices.Clone(pdf), make([]byte, leadgridapi.MaxCV-len(pdf))...)); err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for _, base := range []string{
		"", "leadgrid.io", "/api/v1", "ftp://leadgrid.io", "https://", "https://secret:x@leadgrid.io",
		"https://leadgrid.io?key=secret", "https://leadgrid.io?", "https://leadgrid.io#secret", "https://secret%zz",
	} {
		_, err := leadgridapi.New(base, testKey)
		if err == nil {
			t.Errorf("%q: no error", base)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error quotes it: %v", base, err)
		}
	}
	for _, key := range []string{"", " \n"} {
		if _, err := leadgridapi.New(leadgridapi.DefaultBaseURL, key); !errors.Is(err, leadgridapi.ErrNoKey) {
			t.Errorf("key %q: got %v", key, err)
		}
	}
	if _, err := leadgridapi.New(leadgridapi.DefaultBaseURL+"/", testKey); err != nil {
		t.Error(err)
	}
}

func TestKeyRotates(t *testing.T) {
	key := "one"
	var got []string
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"data": {}}`)
	}, leadgridapi.WithKeyFunc(func() string { return key }))
	for _, key = range []string{"one", "two\n"} {
		if _, err := client.Dossier(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	}
	key = " \n"
	if _, err := client.Dossier(t.Context(), "x"); !errors.Is(err, leadgridapi.ErrNoKey) {
		t.Errorf("blank key: got %v", err)
	}
	if want := []string{"Bearer one", "Bearer two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUserAgent(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.UserAgent(); got != "acme-crm/2" {
			t.Errorf("got %q", got)
		}
		_, _ = io.WriteString(w, `{"data": {}}`)
	}, leadgridapi.WithUserAgent("acme-crm/2"))
	if _, err := client.Dossier(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

// limiter records what it is asked and told.
type limiter struct {
	mu       sync.Mutex
	refusal  error
	acquired int
	seen     []leadgridapi.Observation
}

func (l *limiter) Acquire(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal == nil {
		l.acquired++
	}
	return l.refusal
}

func (l *limiter) Observe(o leadgridapi.Observation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, o)
}

func TestLimiter(t *testing.T) {
	var requests atomic.Int64
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		w.Header().Set("X-RateLimit-Limit", "120")
		w.Header().Set("X-RateLimit-Remaining", fmt.Sprint(120-n))
		switch r.URL.Path {
		case "/api/v1/dossiers/limited":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/api/v1/dossiers/gone":
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, `{"data": {}}`)
		}
	})
	l := &limiter{}
	client := plain.WithLimiter(l)
	if got := plain.Limits(); got != (leadgridapi.Limits{}) {
		t.Errorf("before the first answer: %+v", got)
	}

	before := time.Now()
	for _, id := range []string{"x", "limited", "gone"} {
		_, _ = client.Dossier(t.Context(), id)
	}
	// Go sends a GET again when a reused connection is dropped, so only what the
	// client itself asked counts here.
	if l.acquired != 3 || len(l.seen) != 3 {
		t.Fatalf("acquired %d, seen %d", l.acquired, len(l.seen))
	}
	ok, limited, gone := l.seen[0], l.seen[1], l.seen[2]
	if ok.Status != 200 || *ok.Limit != 120 || *ok.Remaining != 119 || ok.RetryAfter != 0 || ok.Err != nil {
		t.Errorf("200: %+v", ok)
	}
	if ok.Sent.Before(before) || ok.Answered.Before(ok.Sent) || ok.Answered.After(time.Now()) {
		t.Errorf("sent %v, answered %v", ok.Sent, ok.Answered)
	}
	if limited.Status != 429 || limited.RetryAfter != 7*time.Second {
		t.Errorf("429: %+v", limited)
	}
	if _, is := errors.AsType[*leadgridapi.TransportError](gone.Err); !is || gone.Status != 0 || gone.Remaining != nil {
		t.Errorf("no answer: %+v", gone)
	}
	if got := plain.Limits(); *got.Limit != 120 || *got.Remaining != 118 || !got.At.Equal(limited.Answered) {
		t.Errorf("remembered %+v", got)
	}

	requests.Store(0)
	l.refusal = errors.New("the budget is spent")
	if _, err := client.Dossier(t.Context(), "x"); !errors.Is(err, l.refusal) || leadgridapi.Sent(err) {
		t.Errorf("refused: %v", err)
	}
	if n := requests.Load(); n != 0 || len(l.seen) != 3 {
		t.Errorf("refused, but %d requests, %d seen", n, len(l.seen))
	}
}
