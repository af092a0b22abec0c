package leadgridapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

var refusals = []error{
	leadgridapi.ErrUnauthorized, leadgridapi.ErrPlanRequired, leadgridapi.ErrForbidden, leadgridapi.ErrNotFound,
	leadgridapi.ErrInvalidBody, leadgridapi.ErrDuplicateContact, leadgridapi.ErrRateLimited, leadgridapi.ErrInternal,
}

func TestRefusals(t *testing.T) {
	coded := func(code string) string { return `{"error": {"code": "` + code + `", "message": "No."}}` }
	tests := []struct {
		status int
		body   string
		is     error // the one refusal it matches, nil for none
		text   string
	}{
		{401, coded("unauthorized"), leadgridapi.ErrUnauthorized, "401 unauthorized"},
		{402, coded("plan_required"), leadgridapi.ErrPlanRequired, "402 plan_required"},
		{403, coded("plan_required"), leadgridapi.ErrPlanRequired, "403 plan_required"},
		{403, coded("forbidden"), leadgridapi.ErrForbidden, "403 forbidden"},
		{404, coded("not_found"), leadgridapi.ErrNotFound, "404 not_found"},
		{400, coded("invalid_body"), leadgridapi.ErrInvalidBody, "400 invalid_body"},
		{409, coded("duplicate_contact"), leadgridapi.ErrDuplicateContact, "409 duplicate_contact"},
		{429, coded("rate_limited"), leadgridapi.ErrRateLimited, "429 rate_limited, retry after 1m0s"},
		{500, coded("internal"), leadgridapi.ErrInternal, "500 internal"},
		{418, coded("teapot"), nil, "418 I'm a teapot"},

		// Not LeadGrid's words: a proxy's, or none.
		{401, "", leadgridapi.ErrUnauthorized, "401 Unauthorized"},
		{402, `{"error": "pay"}`, leadgridapi.ErrPlanRequired, "402 Payment Required"},
		{403, `{"error": {"code": 7}}`, leadgridapi.ErrForbidden, "403 Forbidden"},
		{404, "<html>nginx</html>", nil, "404 Not Found"},
		{409, "[]", nil, "409 Conflict"},
		{429, "slow down", leadgridapi.ErrRateLimited, "429 Too Many Requests, retry after 1m0s"},
		{500, `{"error": null}`, leadgridapi.ErrInternal, "500 Internal Server Error"},
		{502, "<html>Bad gateway</html>", nil, "502 Bad Gateway"},
		{503, strings.Repeat("x", 1<<20), nil, "503 Service Unavailable"},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			client := serve(t, answer(test.status, test.body))
			_, err := client.Dossier(t.Context(), "a/b")
			e, ok := errors.AsType[*leadgridapi.Error](err)
			if !ok {
				t.Fatalf("got %T %v", err, err)
			}
			if e.Status != test.status || e.Method != "GET" || e.Path != "/dossiers/a%2Fb" {
				t.Errorf("got %+v", *e)
			}
			if want := "leadgrid: GET /dossiers/a%2Fb: " + test.text; err.Error() != want {
				t.Errorf("got  %s\nwant %s", err, want)
			}
			for _, refusal := range refusals {
				if errors.Is(err, refusal) != (refusal == test.is) {
					t.Errorf("errors.Is(err, %q) = %t", refusal, errors.Is(err, refusal))
				}
			}
			if strings.Contains(test.body, "No.") && e.Message != "No." {
				t.Errorf("got message %q", e.Message)
			}
			if _, limited := errors.AsType[*leadgridapi.RateLimitError](err); limited != (test.status == 429) {
				t.Errorf("a RateLimitError: %t", limited)
			}
			if !leadgridapi.Sent(err) {
				t.Error("not sent")
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	date := time.Date(2026, 4, 15, 10, 0, 0, 0, time.UTC) // not our clock's
	tests := []struct {
		header string
		want   time.Duration
	}{
		{"", time.Minute},
		{"0", 0},
		{"7", 7 * time.Second},
		{" 7 ", 7 * time.Second},
		{"7200", 2 * time.Hour},
		{date.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{date.Add(90 * time.Second).Format("Monday, 02-Jan-06 15:04:05 GMT"), 90 * time.Second},
		{date.Add(-time.Hour).Format(http.TimeFormat), 0},
		{"-7", time.Minute},
		{"+7", time.Minute},
		{"1.5", 1500 * time.Millisecond},
		{"0.997", 997 * time.Millisecond},
		{"1.5.2", time.Minute},
		{".", time.Minute},
		{"soon", time.Minute},
		{"99999999999999999999", time.Minute},
		{"9223372036854775807", time.Minute},
	}
	for _, test := range tests {
		t.Run(test.header, func(t *testing.T) {
			client := serve(t, answer(429, "", "Retry-After", test.header, "Date", date.Format(http.TimeFormat)))
			_, err := client.Dossier(t.Context(), "x")
			limited, ok := errors.AsType[*leadgridapi.RateLimitError](err)
			if !ok || limited.RetryAfter != test.want || limited.Err.RetryAfter != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestRetryAfterOnOtherRefusals(t *testing.T) {
	_, err := serve(t, answer(503, "", "Retry-After", "30")).Dossier(t.Context(), "x")
	if e, ok := errors.AsType[*leadgridapi.Error](err); !ok || e.RetryAfter != 30*time.Second {
		t.Errorf("got %v", err)
	}
}

func TestProtocolErrors(t *testing.T) {
	tests := []struct {
		name, body, text string
	}{
		{"empty", "", "unexpected end of JSON input"},
		{"HTML", "<html>Welcome, Jan Peeters</html>", "invalid character '<'"},
		{"cut short", `{"data": {"name": "Jan Pee`, "unexpected end of JSON input"},
		{"no data", `{"id": "x"}`, "the body has no data, or data of another shape"},
		{"null", `{"data": null}`, "the body has no data, or data of another shape"},
		{"a list", `{"data": []}`, "the body has no data, or data of another shape"},
		{"an array", `["Jan Peeters"]`, "the body has no data, or data of another shape"},
		{"trailing", `{"data": {}} {}`, "invalid character '{' after top-level value"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := serve(t, answer(201, test.body)).Dossier(t.Context(), "x")
			e, ok := errors.AsType[*leadgridapi.ProtocolError](err)
			if !ok || e.Status != 201 || e.Method != "GET" || e.Path != "/dossiers/x" {
				t.Fatalf("got %T %v", err, err)
			}
			if !strings.HasPrefix(err.Error(), "leadgrid: GET /dossiers/x: 201: ") || !strings.Contains(err.Error(), test.text) ||
				strings.Contains(err.Error(), "Peeters") {
				t.Errorf("got %q", err)
			}
			if !leadgridapi.Sent(err) {
				t.Error("not sent")
			}
		})
	}
	if _, err := serve(t, answer(200, `{"data": {}}`)).ListDossiers(t.Context(), leadgridapi.DossierFilter{}, leadgridapi.PageRequest{}); err == nil {
		t.Error("an object passed for a list")
	}
}

func TestEndlessBody(t *testing.T) {
	const most = 256
	written := make(chan int, 1)
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		mebibytes := 0
		for chunk := make([]byte, 1<<20); mebibytes < most; mebibytes++ {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		written <- mebibytes
	})
	_, err := client.Dossier(t.Context(), "x")
	if err == nil || err.Error() != "leadgrid: GET /dossiers/x: 200: the body is larger than 32 MiB" {
		t.Errorf("got %v", err)
	}
	if n := <-written; n == most {
		t.Error("the client read it all")
	}
}

// A connection that breaks inside the body is not the end of the body.
func TestTruncatedBody(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		status := http.StatusOK
		if strings.HasSuffix(r.URL.Path, "refused") {
			status = http.StatusForbidden
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"data": {}}`)
	})
	_, err := client.Dossier(t.Context(), "x")
	if e, ok := errors.AsType[*leadgridapi.ProtocolError](err); !ok || e.Status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if _, err := client.Dossier(t.Context(), "refused"); !errors.Is(err, leadgridapi.ErrForbidden) {
		t.Errorf("a refusal cut short: got %v", err)
	}
}

func TestRedirectsAreRefused(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		client := serve(t, answer(status, "", "Location", other.URL+"/api/v1/notes?search=Peeters"),
			leadgridapi.WithHTTPClient(&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}))
		_, err := client.AddNote(t.Context(), "x", leadgridapi.NoteInput{Content: "called"})
		if want := fmt.Sprintf("leadgrid: POST /dossiers/x/notes: %d: redirected to %s", status, other.URL); !errors.Is(err, leadgridapi.ErrRedirect) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	_, err := serve(t, answer(300, "")).Dossier(t.Context(), "x")
	if !errors.Is(err, leadgridapi.ErrRedirect) || err.Error() != "leadgrid: GET /dossiers/x: 300: redirected" {
		t.Errorf("to nowhere: got %v", err)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

// A server may quote the key, and a search holds a person's name: neither may come
// out in an error, however it is printed.
func TestErrorsAreSafeToLog(t *testing.T) {
	const key, person = "lg_live_quoted", "Peeters"
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://www.leadgrid.io"+r.RequestURI+"&"+key)
			w.WriteHeader(status)
			text, _ := json.Marshal(r.Header.Get("Authorization"))
			_, _ = fmt.Fprintf(w, `{"error": {"code": %s, "message": %s}}`, text, text)
		}
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	quoting := roundTripper(func(r *http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("cannot send %v", r.Header)
	})
	for name, client := range map[string]*leadgridapi.Client{
		"refused":     serve(t, echo(401), leadgridapi.WithKeyFunc(func() string { return key })),
		"limited":     serve(t, echo(429), leadgridapi.WithKeyFunc(func() string { return key })),
		"redirected":  serve(t, echo(301), leadgridapi.WithKeyFunc(func() string { return key })),
		"odd":         serve(t, echo(200), leadgridapi.WithKeyFunc(func() string { return key })),
		"no answer":   serve(t, hangUp, leadgridapi.WithKeyFunc(func() string { return key })),
		"bad header":  serve(t, hangUp, leadgridapi.WithKeyFunc(func() string { return key + "\n" + key })),
		"bad network": serve(t, hangUp, leadgridapi.WithKeyFunc(func() string { return key }), leadgridapi.WithHTTPClient(&http.Client{Transport: quoting})),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.ListContacts(t.Context(), leadgridapi.ContactFilter{Search: person}, leadgridapi.PageRequest{})
			if err == nil {
				t.Fatal("no error")
			}
			for ; err != nil; err = errors.Unwrap(err) {
				for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
					if strings.Contains(text, key) || strings.Contains(text, person) {
						t.Errorf("it leaks: %s", text)
					}
				}
			}
			if text := fmt.Sprintf("%+v %#v", client, client); strings.Contains(text, key) {
				t.Error("a printed client shows its key")
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTimeouts(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) }) // before the servers wait for their handlers
	handler := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "body") {
			_, _ = io.WriteString(w, `{"data": `)
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	client := serve(t, handler, leadgridapi.WithTimeout(50*time.Millisecond))

	_, err := client.Dossier(t.Context(), "headers")
	if e, ok := errors.AsType[*leadgridapi.TransportError](err); !ok || !e.Sent || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no headers: got %v", err)
	}
	_, err = client.Dossier(t.Context(), "body")
	if _, ok := errors.AsType[*leadgridapi.ProtocolError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no body: got %v", err)
	}

	patient := serve(t, handler, leadgridapi.WithTimeout(0))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := patient.Dossier(ctx, "headers"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's deadline: got %v", err)
	}
}

// Sent decides whether a create may be repeated, so it is proven against sockets.
func TestSent(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		base string
		want bool
	}{
		{"nobody listens", t.Context(), "http://" + closedAddr(t), false},
		{"no TLS there", t.Context(), "https://" + rawServer(t, func(c net.Conn) { _, _ = io.WriteString(c, "hello\n") }), false},
		{"given up before", cancelled, "http://" + rawServer(t, func(net.Conn) {}), false},
		{"read, then hung up", t.Context(), "http://" + rawServer(t, func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }), true},
		{"answered rubbish", t.Context(), "http://" + rawServer(t, func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, "rubbish\r\n\r\n")
		}), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, err := leadgridapi.New(test.base, testKey)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.CreateDossier(test.ctx, leadgridapi.DossierInput{Type: "sales", Name: "n"}, nil)
			e, ok := errors.AsType[*leadgridapi.TransportError](err)
			if !ok || e.Sent != test.want || leadgridapi.Sent(fmt.Errorf("wrapped: %w", err)) != test.want {
				t.Errorf("got %#v", err)
			}
		})
	}
}

// A create on a kept-alive connection that drops must reach LeadGrid once, not
// once more on a fresh connection.
func TestCreateIsNotReplayed(t *testing.T) {
	var creates atomic.Int32
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			creates.Add(1)
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"data": {}}`)
	})
	if _, err := client.Dossier(t.Context(), "x"); err != nil { // leaves its connection idle
		t.Fatal(err)
	}
	_, err := client.CreateDossier(t.Context(), leadgridapi.DossierInput{Type: "sales", Name: "n"}, nil)
	if !leadgridapi.Sent(err) {
		t.Errorf("got %v", err)
	}
	if n := creates.Load(); n != 1 {
		t.Errorf("%d creates arrived", n)
	}
}

func closedAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// rawServer hands each connection to f, then closes it.
func rawServer(t *testing.T, f func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestTemporary(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{&leadgridapi.Error{Status: 500, Code: "internal"}, true},
		{&leadgridapi.Error{Status: 503}, true},
		{&leadgridapi.Error{Status: 404}, true}, // a proxy's
		{&leadgridapi.Error{Status: 404, Code: "not_found"}, false},
		{&leadgridapi.Error{Status: 401, Code: "unauthorized"}, false},
		{&leadgridapi.RateLimitError{Err: &leadgridapi.Error{Status: 429, Code: "rate_limited"}}, false},
		{&leadgridapi.TransportError{Err: io.ErrUnexpectedEOF}, true},
		{&leadgridapi.ProtocolError{Status: 200, Err: io.ErrUnexpectedEOF}, true},
		{&leadgridapi.ProtocolError{Status: 302, Err: leadgridapi.ErrRedirect}, false},
		{context.Canceled, false},
		{nil, false},
	} {
		if got := leadgridapi.Temporary(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}
