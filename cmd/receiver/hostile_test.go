package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// The rows of the table of hostile and odd webhooks, by their numbers in it, against a running receiver. Those that take
// more than one plain request have tests of their own below; 21 and 41 are in receiver_test.go.

// hostile is a row, or one of its cases, that is one request.
type hostile struct {
	row        int
	name       string
	body       []byte                     // an event of its own if nil
	signatures func(good string) []string // the values of the header, from the right one
	headers    []string                   // more of them
	want       int
	kept       string
}

// signedBy replaces the right signature.
func signedBy(values ...string) func(string) []string {
	return func(string) []string { return values }
}

// signedWith makes one out of the time and the hex digits of the right one.
func signedWith(format string) func(string) []string {
	return func(good string) []string {
		t, v1 := parts(good)
		return []string{strings.NewReplacer("{t}", t, "{v1}", v1, "{V1}", strings.ToUpper(v1), "{wrong}", strings.Repeat("0f", 32)).Replace(format)}
	}
}

func parts(good string) (t, v1 string) {
	t, v1, _ = strings.Cut(strings.TrimPrefix(good, "t="), ",v1=")
	return t, v1
}

// signedAt signs for another time.
func signedAt(body []byte, offset func(now time.Time) time.Time) func(string) []string {
	return func(string) []string {
		return []string{leadgridapi.Sign(testSecret, offset(time.Now()), body)}
	}
}

func hostileRows() []hostile {
	const ok, unauthorized = http.StatusOK, http.StatusUnauthorized
	refused := func(row int, name string, signatures func(string) []string) hostile {
		return hostile{row: row, name: name, signatures: signatures, want: unauthorized, kept: "nothing"}
	}
	accepted := func(row int, name string, signatures func(string) []string) hostile {
		return hostile{row: row, name: name, signatures: signatures, want: ok, kept: "event"}
	}
	odd := func(row int, name, body string, headers ...string) hostile {
		return hostile{row: row, name: name, body: []byte(body), headers: headers, want: ok, kept: "odd"}
	}
	whole := func(row int, name, body string, headers ...string) hostile {
		return hostile{row: row, name: name, body: []byte(body), headers: headers, want: ok, kept: "event"}
	}
	aged := func(row int, name string, offset func(time.Time) time.Time, want int, kept string) hostile {
		body := event("evt_" + name)
		return hostile{row: row, name: name, body: body, signatures: signedAt(body, offset), want: want, kept: kept}
	}
	sized := func(name string, size, want int, kept string) hostile {
		body := event("evt_" + name)
		body = append(body[:len(body)-1], bytes.Repeat([]byte(" "), size-len(body))...)
		return hostile{row: 22, name: name, body: append(body, '}'), want: want, kept: kept}
	}
	good, other := event("evt_19"), event("evt_19_changed")
	changed := hostile{row: 19, name: "one byte changed", body: bytes.Replace(good, []byte("dos_1"), []byte("dos_2"), 1),
		signatures: signedBy(sign(good)), want: unauthorized, kept: "nothing"}
	rewritten := hostile{row: 19, name: "JSON written anew", body: bytes.ReplaceAll(other, []byte(":"), []byte(": ")),
		signatures: signedBy(sign(other)), want: unauthorized, kept: "nothing"}

	return []hostile{
		refused(1, "no header", signedBy()),
		refused(1, "empty header", signedBy("")),
		refused(2, "only t", signedWith("t={t}")),
		refused(2, "only v1", signedWith("v1={v1}")),
		refused(3, "unknown scheme", signedWith("t={t},v0={v1}")),
		accepted(4, "wrong and right", signedWith("t={t},v1={wrong},v1={v1}")),
		refused(5, "several wrong", signedWith("t={t},v1={wrong},v1={wrong}")),
		accepted(6, "unknown keys", signedWith("t={t},v0=abc,v1={v1},x=1")),
		accepted(7, "upper case", signedWith("t={t},v1={V1}")),
		refused(8, "63 characters", func(good string) []string { return []string{good[:len(good)-1]} }),
		refused(8, "65 characters", signedWith("t={t},v1={v1}0")),
		refused(8, "128 characters", signedWith("t={t},v1={v1}{v1}")),
		refused(8, "not hex", func(good string) []string { return []string{good[:len(good)-1] + "g"} }),
		refused(9, "a prefix", func(good string) []string { return []string{good[:len(good)-32]} }),
		accepted(10, "blanks", signedWith("t={t}, v1={v1}")),
		refused(11, "t twice", signedWith("t={t},t={t},v1={v1}")),
		refused(12, "header twice", func(good string) []string { return []string{good, good} }),
		refused(13, "plus", signedWith("t=+{t},v1={v1}")),
		refused(13, "negative", signedWith("t=-1,v1={v1}")),
		refused(13, "leading zero", signedWith("t=0{t},v1={v1}")),
		refused(13, "fraction", signedWith("t={t}.5,v1={v1}")),
		refused(13, "overflow", signedWith("t=9223372036854775808,v1={v1}")),
		refused(13, "overflow of a duration", signedWith("t=99999999999,v1={v1}")),
		refused(14, "a thousand v1", signedWith("t={t}"+strings.Repeat(",v1={wrong}", 999)+",v1={v1}")),
		refused(14, "above 4 KiB", signedWith("t={t},v1={v1},x="+strings.Repeat("x", 4<<10))),
		// To the second, and so that the request's own time makes no difference.
		aged(15, "299 s old", func(now time.Time) time.Time { return now.Add(-298 * time.Second) }, ok, "event"),
		aged(15, "301 s old", func(now time.Time) time.Time { return now.Add(-301 * time.Second) }, unauthorized, "nothing"),
		aged(16, "299 s ahead", func(now time.Time) time.Time { return now.Add(299 * time.Second) }, ok, "event"),
		aged(16, "301 s ahead", func(now time.Time) time.Time { return now.Add(303 * time.Second) }, unauthorized, "nothing"),
		changed, rewritten,
		sized("1 MiB", 1<<20, ok, "event"),
		sized("1 MiB and a byte", 1<<20+1, http.StatusRequestEntityTooLarge, "nothing"),
		odd(27, "empty", ""),
		whole(28, "text/plain", string(event("evt_28")), "Content-Type", "text/plain"),
		odd(29, "gzip", zipped(event("evt_29")), "Content-Encoding", "gzip"),
		odd(30, "not UTF-8", "{\"id\":\"evt_30\",\"data\":\"\xff\"}"),
		odd(31, "U+0000", `{"id":"evt_31","data":"\u0000"}`),
		odd(31, "lone surrogate", `{"id":"evt_31","data":"\ud800"}`),
		odd(32, "a key twice", `{"id":"evt_32","data":{},"data":{}}`),
		odd(32, "ID beside id", `{"id":"evt_32","ID":"evt_33"}`),
		odd(33, "nested", `{"id":"evt_33","data":`+strings.Repeat("[", 65)+strings.Repeat("]", 65)+`}`),
		odd(33, "nested as deep as goes", strings.Repeat("[", 1<<20)),
		whole(34, "1e400", `{"id":"evt_34","type":"dossier.updated","data":{"id":"dos_1","deal_size":1e400}}`),
		whole(34, "beyond 2^53", `{"id":"evt_34","type":"dossier.updated","data":{"id":"dos_1","deal_size":9007199254740993}}`),
		odd(34, "1e200000", `{"id":"evt_34","data":1e200000}`),
		odd(35, "byte-order mark", "\xef\xbb\xbf"+string(event("evt_35"))),
		odd(35, "trailing bytes", string(event("evt_35"))+"x"),
		odd(35, "array", `[{"id":"evt_35"}]`),
		odd(35, "null", `null`),
		odd(36, "no id", `{"type":"dossier.updated","data":{"id":"dos_1"}}`),
		odd(36, "a number", `{"id":7,"type":"dossier.updated","data":{"id":"dos_1"}}`),
		odd(36, "10 kB", `{"id":"`+strings.Repeat("e", 10_000)+`","type":"dossier.updated"}`),
		whole(37, "a type nobody knows", `{"id":"evt_37","type":"contact.merged","created_at":"2026-05-01T10:00:00Z","data":{"id":"con_1"}}`),
		whole(38, "a dossier nobody knows", `{"id":"evt_38","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":"dos_38"}}`),
	}
}

func TestPromise1And2_HostileWebhooks(t *testing.T) {
	r := startRig(t)
	for i, h := range hostileRows() {
		t.Run(fmt.Sprintf("%02d %s", h.row, h.name), func(t *testing.T) {
			t.Parallel()
			body := h.body
			if body == nil {
				body = event(fmt.Sprintf("evt_%d_%d", h.row, i))
			}
			headers, signatures := h.headers, []string{sign(body)}
			if h.signatures != nil {
				signatures = h.signatures(sign(body))
			}
			for _, value := range signatures {
				headers = append(headers, leadgridapi.SignatureHeader, value)
			}
			response, err := r.send(t.Context(), http.MethodPost, webhooksPath, body, headers...)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != h.want {
				t.Errorf("status %d, want %d", response.StatusCode, h.want)
			}
			if kept := r.kept(t, body); kept != h.kept {
				t.Errorf("stored: %s, want %s", kept, h.kept)
			}
		})
	}
}

func zipped(body []byte) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(body)
	w.Close()
	return b.String()
}

func TestPromise1_Hostile17_TheSameRequestAgain(t *testing.T) {
	r := startRig(t)
	body := event("evt_17")
	signature := sign(body)
	for range 3 {
		response, err := r.send(t.Context(), http.MethodPost, webhooksPath, body, leadgridapi.SignatureHeader, signature)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v, want 200", response, err)
		}
	}
	if n := r.count(t); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestPromise1_Hostile18_TheSameIDWithAnotherBody(t *testing.T) {
	r := startRig(t)
	for _, body := range [][]byte{event("evt_18"), append(event("evt_18"), ' ')} {
		if response := r.post(t, body); response.StatusCode != http.StatusOK {
			t.Fatalf("status %d, want 200", response.StatusCode)
		}
		if kept := r.kept(t, body); kept != "event" {
			t.Errorf("stored: %s, want event", kept)
		}
	}
	if n := r.count(t); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestPromise2_Hostile23_AHugeBodyIsRefusedUnread(t *testing.T) {
	r := startRig(t)
	conn := r.dial(t)
	io.WriteString(conn, head(nil, "Content-Length: 10000000000"))
	if got := status(t, conn); got != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, want 413", got)
	}
}

func TestPromise2_Hostile24_Chunked(t *testing.T) {
	r := startRig(t)
	body := event("evt_24")
	conn := r.dial(t)
	fmt.Fprintf(conn, "%s5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", head(body, "Transfer-Encoding: chunked"), body[:5], len(body)-5, body[5:])
	if got := status(t, conn); got != http.StatusOK || r.kept(t, body) != "event" {
		t.Errorf("right chunks: status %d, stored: %s", got, r.kept(t, body))
	}

	conn = r.dial(t)
	io.WriteString(conn, head(nil, "Transfer-Encoding: chunked"))
	var writing sync.WaitGroup
	writing.Go(func() {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("x", 64<<10))
		for {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return
			}
		}
	})
	if got := status(t, conn); got != http.StatusRequestEntityTooLarge {
		t.Errorf("chunks without end: status %d, want 413", got)
	}
	conn.Close()
	writing.Wait()
}

func TestPromise2_Hostile25_ABodyThatTrickles(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	var trickles sync.WaitGroup
	for name, start := range map[string]string{
		"body":                     head(nil, "Content-Length: 500"),
		"chunks":                   head(nil, "Transfer-Encoding: chunked"),
		"header":                   "POST " + webhooksPath + " HTTP/1.1\r\nX-",
		"nothing":                  "",
		"body without a signature": "POST " + webhooksPath + " HTTP/1.1\r\nHost: receiver\r\nContent-Length: 500\r\n\r\n",
	} {
		conn := r.dial(t)
		began := time.Now()
		io.WriteString(conn, start)
		go func() {
			for range time.Tick(200 * time.Millisecond) {
				if _, err := io.WriteString(conn, "1\r\nx\r\n"); err != nil {
					return
				}
			}
		}()
		trickles.Go(func() {
			switch got := status(t, conn); got {
			case 0, http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestTimeout:
			default:
				t.Errorf("%s: status %d", name, got)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
	trickles.Wait()
	if n := r.count(t); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestPromise2_Hostile26_FewerBytesThanAnnounced(t *testing.T) {
	r := startRig(t)
	body := event("evt_26")
	conn := r.dial(t)
	fmt.Fprintf(conn, "%s%s", head(body, "Content-Length: "+strconv.Itoa(len(body)+1)), body)
	conn.(*net.TCPConn).CloseWrite()
	if got := status(t, conn); got != 0 && got != http.StatusBadRequest {
		t.Errorf("status %d, want 400 or none", got)
	}
	if n := r.count(t); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestPromise2_Hostile39And40_OtherMethodsAndPaths(t *testing.T) {
	r := startRig(t)
	body := event("evt_39")
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, webhooksPath, http.StatusMethodNotAllowed},
		{http.MethodPut, webhooksPath, http.StatusMethodNotAllowed},
		{http.MethodOptions, webhooksPath, http.StatusMethodNotAllowed},
		{http.MethodHead, webhooksPath, http.StatusMethodNotAllowed},
		{"BREW", webhooksPath, http.StatusMethodNotAllowed},
		{http.MethodPost, webhooksPath + "/", http.StatusNotFound},
		{http.MethodPost, "/Webhooks/leadgrid", http.StatusNotFound},
		{http.MethodPost, "//webhooks/leadgrid", http.StatusNotFound},
		{http.MethodPost, "/", http.StatusNotFound},
		{http.MethodGet, "/metrics", http.StatusNotFound},
		{http.MethodGet, "/debug/pprof/", http.StatusNotFound},
	} {
		response, err := r.send(t.Context(), c.method, c.path, body, leadgridapi.SignatureHeader, sign(body))
		if err != nil || response.StatusCode != c.want {
			t.Errorf("%s %s: %v, %v, want %d", c.method, c.path, response, err, c.want)
		}
	}
	if n := r.count(t); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestPromise1_Hostile42_TheSenderLeaves(t *testing.T) {
	r := startRig(t)
	body := event("evt_42")
	conn := r.dial(t)
	fmt.Fprintf(conn, "%s%s", head(body, "Content-Length: "+strconv.Itoa(len(body))), body)
	// It waits for the commit, then leaves without looking at the answer.
	eventually.True(t, "the commit", func() bool { return r.count(t) == 1 })
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	if response := r.post(t, body); response.StatusCode != http.StatusOK || r.count(t) != 1 {
		t.Errorf("again: status %d, %d rows, want 200 and 1", response.StatusCode, r.count(t))
	}
}

func TestPromise1_Hostile43_AThousandCopiesAtOnce(t *testing.T) {
	r := startRig(t)
	body := event("evt_43")
	request := head(body, "Content-Length: "+strconv.Itoa(len(body))) + string(body)
	var copies sync.WaitGroup
	var acked atomic.Int64
	for range 1000 {
		conn := r.dial(t)
		copies.Go(func() {
			io.WriteString(conn, request)
			if status(t, conn) == http.StatusOK {
				acked.Add(1)
			}
		})
	}
	copies.Wait()
	if acked.Load() != 1000 || r.count(t) != 1 {
		t.Errorf("%d acked and %d rows, want 1000 and 1", acked.Load(), r.count(t))
	}
}

func TestPromise2_Hostile44_AnUnsignedFloodBesideSignedTraffic(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	var floods atomic.Int64
	// Whatever a stranger can make the receiver do: parse, hash, wait for slow and for large bodies.
	wrong := fmt.Sprintf("t=%d,v1=%s", time.Now().Unix(), hex.EncodeToString(make([]byte, 32)))
	for range 16 {
		for _, signature := range []string{"", wrong} {
			flood.Go(func() {
				for ctx.Err() == nil {
					response, err := r.send(ctx, http.MethodPost, webhooksPath, event("evt_flood"), leadgridapi.SignatureHeader, signature)
					if err == nil && response.StatusCode != http.StatusUnauthorized {
						t.Errorf("flood: status %d, want 401", response.StatusCode)
					} else if err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("flood: %v", err)
					}
					floods.Add(1)
				}
			})
		}
	}
	for range 300 { // held open: more than the large ones that may come at once
		conn := r.dial(t)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: receiver\r\n%s: %s\r\nContent-Length: 1000000\r\n\r\n%s",
			webhooksPath, leadgridapi.SignatureHeader, wrong, strings.Repeat("x", 100<<10))
	}
	// The large ones take turns, so that they cannot fill the memory.
	eventually.True(t, "large bodies to be turned away", func() bool {
		_, metrics := r.ask(t, "/metrics")
		return regexp.MustCompile(`leadgrid_webhooks_total{result="crowded",type="none"} [1-9]`).MatchString(metrics)
	})
	eventually.True(t, "the flood", func() bool { return floods.Load() > 200 })
	for i := range 100 {
		began := time.Now()
		if response := r.post(t, event(fmt.Sprintf("evt_44_%d", i))); response.StatusCode != http.StatusOK {
			t.Fatalf("signed event %d: status %d, want 200", i, response.StatusCode)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("signed event %d took %v", i, took)
		}
	}
	if n := r.count(t); n != 100 {
		t.Errorf("%d rows, want the 100 signed ones", n)
	}
}

func (r *rig) count(t *testing.T) (n int) {
	t.Helper()
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM webhook_events`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
