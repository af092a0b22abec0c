package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// load sends events over so many connections, with as little work of its own as possible: it shares the processors with what
// it measures. At rate 0 every connection sends its next event as soon as the last was acked; otherwise the events are due
// at that rate a second, and what is sent late counts as waiting.
func (r *benchReceiver) load(b *testing.B, connections int, length time.Duration, rate int, next func() int64) load {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		all   load
		began = time.Now()
	)
	for first := range connections {
		group.Go(func() {
			conn, err := net.Dial("tcp", r.address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			var acks []time.Duration
			answers := bufio.NewReaderSize(conn, 1024)
			request := r.webhook()
			for n := first; ; n += connections {
				due := time.Now()
				if rate > 0 {
					due = began.Add(time.Duration(n) * time.Second / time.Duration(rate))
					<-time.After(time.Until(due))
				}
				if due.Sub(began) >= length {
					break
				}
				if err := exchange(conn, answers, request.numbered(next())); err != nil {
					b.Error(err)
					return
				}
				acks = append(acks, time.Since(due))
			}
			mu.Lock()
			all.acks = append(all.acks, acks...)
			mu.Unlock()
		})
	}
	group.Wait()
	all.took = time.Since(began)
	slices.Sort(all.acks)
	return all
}

// webhook makes requests that differ in their number only, each in the place of the one before: a sender shares the
// processors with the receiver, and should cost next to nothing.
type webhook struct {
	request   []byte
	numbers   [][]byte // where the number stands in it, and is to be signed
	signature []byte   // where it stands
	signed    []byte   // the body
	timestamp string
	mac       hash.Hash
}

const numberPlace = "##########"

// newWebhook makes requests for a path with a body in which every numberPlace stands for the number. The header's value is
// "t=<seconds>,v1=<HMAC-SHA-256 of t.body in hexadecimal>", as LeadGrid and others have it.
func newWebhook(path, header, secret, body string) *webhook {
	w := &webhook{timestamp: strconv.FormatInt(time.Now().Unix(), 10), mac: hmac.New(sha256.New, []byte(secret))}
	w.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: receiver\r\n%s: t=%s,v1=", path, header, w.timestamp)
	signature := len(w.request)
	w.request = fmt.Appendf(w.request, "%064d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", 0, len(body), body)
	w.signature = w.request[signature : signature+64]
	w.signed = w.request[len(w.request)-len(body):]
	for rest := w.signed; ; {
		at := bytes.Index(rest, []byte(numberPlace))
		if at < 0 {
			return w
		}
		w.numbers = append(w.numbers, rest[at:at+len(numberPlace)])
		rest = rest[at+len(numberPlace):]
	}
}

// numbered returns the request with number n, until the next call.
func (w *webhook) numbered(n int64) []byte {
	for _, place := range w.numbers {
		for i, n := len(place)-1, n; i >= 0; i, n = i-1, n/10 {
			place[i] = byte('0' + n%10)
		}
	}
	w.mac.Reset()
	io.WriteString(w.mac, w.timestamp)
	io.WriteString(w.mac, ".")
	w.mac.Write(w.signed)
	var sum [sha256.Size]byte
	hex.Encode(w.signature, w.mac.Sum(sum[:0]))
	return w.request
}

// benchWebhook is an event of 600 bytes.
func benchWebhook() *webhook {
	return newWebhook(webhooksPath, leadgridapi.SignatureHeader, testSecret, fmt.Sprintf(`{"id":"evt_%s","type":"dossier.updated",`+
		`"created_at":"2026-05-01T10:00:00Z","data":{"id":"dos_%[1]s","type":"candidate","name":"Jan Jansen","city":"Gent",`+
		`"status":"active","intake_notes":%q}}`, numberPlace, strings.Repeat("a word or two on this candidate; ", 12)))
}

// exchange sends a request and reads its answer, which must be 200.
func exchange(conn net.Conn, answers *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	status, err := answers.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q", status)
	}
	length := 0
	for {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err = answers.Discard(length)
			return err
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
}
