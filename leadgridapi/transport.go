package leadgridapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBody bounds the size of an answer. A page of 100 dossiers with long
	// intake notes is below one MiB.
	maxBody = 32 << 20

	// maxErrorBody bounds how much of a refusal is read.
	maxErrorBody = 64 << 10
)

// An answer is LeadGrid's answer to a request, with a status below 400.
type answer struct {
	request request
	status  int
	body    []byte
}

// misunderstood returns the error for an answer that is not as documented.
func (a answer) misunderstood(err error) error {
	return &ProtocolError{Method: a.request.method, Path: a.request.path, Status: a.status, Err: err}
}

// do sends r once and returns the answer if its status is 2xx. Otherwise it
// returns one of the errors that the package documentation lists.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	if r.err != nil {
		return answer{}, r.err
	}
	key := strings.TrimSpace(c.key()) // a key read from a file ends in a newline
	if key == "" {
		return answer{}, ErrNoKey
	}
	req, err := c.newHTTPRequest(r, key)
	if err != nil {
		return answer{}, err
	}
	if c.limiter != nil {
		if err := c.limiter.Acquire(ctx); err != nil {
			return answer{}, fmt.Errorf("leadgrid: %s %s: not sent: %w", r.method, r.path, err)
		}
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	// If the transport retries on a fresh connection, sent stays true: when in
	// doubt, LeadGrid has seen the request.
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
	})

	start := time.Now()
	resp, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		err := &TransportError{Method: r.method, Path: r.path, Sent: sent.Load(), Err: withoutSecrets(err, key)}
		c.observe(Observation{Sent: start, Answered: time.Now(), Err: err})
		return answer{}, err
	}
	defer resp.Body.Close()
	seen := observation(resp, start, time.Now())
	c.observe(seen)
	return c.read(resp, r, key, seen)
}

// newHTTPRequest turns r into an HTTP request. It never sets an
// Idempotency-Key: LeadGrid has none, and Go's transport would take it as
// permission to send a POST twice.
func (c *Client) newHTTPRequest(r request, key string) (*http.Request, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequest(r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("leadgrid: %s %s: %w", r.method, r.path, withoutSecrets(err, key))
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	return req, nil
}

// read reads an answer's body, or turns the answer into an error.
func (c *Client) read(resp *http.Response, r request, key string, seen Observation) (answer, error) {
	a := answer{request: r, status: resp.StatusCode}
	switch {
	case a.status >= 400:
		// The status is enough for a refusal, even if the body is lost on the way.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		return answer{}, newError(r, seen, body, key)
	case a.status >= 300:
		return answer{}, a.misunderstood(redirectTo(resp))
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	if _, err := buffer.ReadFrom(io.LimitReader(resp.Body, maxBody+1)); err != nil {
		return answer{}, a.misunderstood(fmt.Errorf("reading the body: %w", withoutSecrets(err, key)))
	}
	if buffer.Len() > maxBody {
		return answer{}, a.misunderstood(fmt.Errorf("the body is larger than %d MiB", maxBody>>20))
	}
	a.body = bytes.Clone(buffer.Bytes())
	return a, nil
}

// buffers are for bodies of unknown length: a buffer that grew for one page
// takes the next one without growing again.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
