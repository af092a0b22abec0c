package leadgridapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// DefaultBaseURL is where LeadGrid serves version 1 of its API.
	DefaultBaseURL = "https://leadgrid.io/api/v1"

	// DefaultTimeout bounds one request from the first byte sent to the last
	// byte read; see [WithTimeout].
	DefaultTimeout = time.Minute

	// maxBody bounds what is read of an answer: a page of 100 dossiers with
	// long intake notes is below one MiB.
	maxBody = 32 << 20

	// maxErrorBody bounds what is read of a refusal.
	maxErrorBody = 64 << 10
)

// A Client calls the LeadGrid API with one key, and so for one organization.
// It is safe for concurrent use. Make one with [New].
type Client struct {
	base    string
	key     func() string // a function, so that printing a Client prints no key
	http    *http.Client
	agent   string
	timeout time.Duration
	limiter Limiter
	limits  *atomic.Pointer[Limits] // shared with the copies WithLimiter makes
}

// An Option changes what [New] makes.
type Option func(*Client)

// WithKeyFunc asks f for the key before every request, so that a key can be
// rotated under a running client. It takes the place of New's key argument.
func WithKeyFunc(f func() string) Option { return func(c *Client) { c.key = f } }

// WithHTTPClient sends requests through a copy of h. Its CheckRedirect is not
// used: redirects are always refused, see [ErrRedirect].
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithTimeout bounds each request, its answer's body included. The default is
// [DefaultTimeout]; zero means that only the context bounds it.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithUserAgent sets the User-Agent header.
func WithUserAgent(agent string) Option { return func(c *Client) { c.agent = agent } }

// New returns a client for the API at baseURL, which calls it with key. It
// fails if baseURL is not an absolute http or https URL without user, query
// or fragment, or if there is no key.
func New(baseURL, key string, opts ...Option) (*Client, error) {
	// The URL is not quoted in an error: someone may have put a secret in it.
	base, err := url.Parse(baseURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, errors.New("leadgrid: the base URL is not an absolute http or https URL")
	}
	if base.User != nil || base.RawQuery != "" || base.ForceQuery || base.Fragment != "" {
		return nil, errors.New("leadgrid: the base URL may hold no user, query or fragment")
	}
	c := &Client{
		base:    strings.TrimRight(base.String(), "/"),
		agent:   "leadgridapi-go",
		timeout: DefaultTimeout,
		limits:  new(atomic.Pointer[Limits]),
	}
	if key != "" {
		c.key = func() string { return key }
	}
	for _, opt := range opts {
		opt(c)
	}
	if c.key == nil {
		return nil, ErrNoKey
	}
	c.http = refusingRedirects(c.http)
	return c, nil
}

// refusingRedirects copies h, or makes a client of its own if there is none.
// Go would turn a redirected POST into a GET without its body, and carry the
// key along.
func refusingRedirects(h *http.Client) *http.Client {
	if h == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 16 // all requests go to one host
		h = &http.Client{Transport: transport}
	}
	own := *h
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// WithLimiter returns a copy of c that asks l before each request and tells it
// of each answer. The copy shares c's connections and what [Client.Limits]
// remembers.
func (c *Client) WithLimiter(l Limiter) *Client {
	limited := *c
	limited.limiter = l
	return &limited
}

// A request is one call of the API, ready to be sent.
type request struct {
	method      string
	path        string // below the base URL, its parts already escaped
	query       url.Values
	body        []byte
	contentType string
}

// An answer is what LeadGrid said to a request, with a status below 400.
type answer struct {
	request request
	status  int
	body    []byte
}

// misunderstood is the error for an answer that is not as documented.
func (a answer) misunderstood(err error) error {
	return &ProtocolError{Method: a.request.method, Path: a.request.path, Status: a.status, Err: err}
}

// do sends r once and returns a 2xx answer. Anything else is one of the errors
// the package documentation lists.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
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
	// Sent stays true over the transport's own second attempt on a fresh
	// connection: in doubt, LeadGrid saw it.
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
	})

	start := time.Now()
	resp, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		err := &TransportError{Method: r.method, Path: r.path, Sent: sent.Load(), Err: withoutKey(err, key)}
		c.observe(Observation{Sent: start, Answered: time.Now(), Err: err})
		return answer{}, err
	}
	defer resp.Body.Close()
	seen := observation(resp, start, time.Now())
	c.observe(seen)
	return c.read(resp, r, key, seen)
}

// newHTTPRequest dresses r as an HTTP request. It never sets an
// Idempotency-Key: LeadGrid knows none, and Go's transport would take it as
// leave to send a POST twice.
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
		return nil, fmt.Errorf("leadgrid: %s %s: %w", r.method, r.path, withoutKey(err, key))
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	return req, nil
}

// read takes in an answer's body, or turns the answer into an error.
func (c *Client) read(resp *http.Response, r request, key string, seen Observation) (answer, error) {
	a := answer{request: r, status: resp.StatusCode}
	var err error
	switch {
	case a.status >= 400:
		// A refusal stands by its status, even if its body is lost on the way.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		return answer{}, newError(r, seen, body, key)
	case a.status >= 300:
		return answer{}, a.misunderstood(redirectTo(resp))
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return answer{}, a.misunderstood(fmt.Errorf("reading the body: %w", withoutKey(err, key)))
	}
	if len(a.body) > maxBody {
		return answer{}, a.misunderstood(fmt.Errorf("the body is larger than %d MiB", maxBody>>20))
	}
	return a, nil
}

// path joins literal parts and ids to a request path. Ids are whatever
// LeadGrid says they are, so each is escaped to stay one part of the path; none
// may be empty or climb.
func path(collection string, idsAndParts ...string) (string, error) {
	p := "/" + collection
	for i, part := range idsAndParts {
		if i%2 == 0 && (part == "" || part == "." || part == "..") {
			return "", fmt.Errorf("%w: %q is not an id", ErrInvalidInput, part)
		}
		p += "/" + url.PathEscape(part)
	}
	return p, nil
}
