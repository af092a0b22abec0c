package leadgridapi

import (
	"errors"
	"net/http"
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
)

// A Client calls the LeadGrid API with one key, which belongs to one
// organization. It is safe for concurrent use. Make one with [New].
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

// WithKeyFunc calls f for the key before every request, so that the key can be
// rotated while the client is in use. It replaces New's key argument.
func WithKeyFunc(f func() string) Option { return func(c *Client) { c.key = f } }

// WithHTTPClient sends requests through a copy of h, except that redirects are
// always refused, whatever h's CheckRedirect; see [ErrRedirect].
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithTimeout bounds each request, including reading the answer. The default
// is [DefaultTimeout]; with zero, only the context bounds it.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithUserAgent sets the User-Agent header.
func WithUserAgent(agent string) Option { return func(c *Client) { c.agent = agent } }

// New returns a client that calls the API at baseURL with key. It fails if
// baseURL is not an absolute http or https URL without user, query and
// fragment, or if there is no key.
func New(baseURL, key string, opts ...Option) (*Client, error) {
	// Errors do not quote the URL: somebody may have put a secret in it.
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
	if strings.TrimSpace(key) != "" {
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

// refusingRedirects returns a copy of h, or a new client if h is nil, that
// follows no redirects. Go would turn a redirected POST into a GET without a
// body, and send the key along.
func refusingRedirects(h *http.Client) *http.Client {
	own := http.Client{}
	if h != nil {
		own = *h
	} else if shared, ok := http.DefaultTransport.(*http.Transport); ok {
		transport := shared.Clone()
		transport.MaxIdleConnsPerHost = 16 // all requests go to one host
		own.Transport = transport
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// WithLimiter returns a copy of c that asks l before each request and reports
// each answer to it. The copy shares c's connections and [Client.Limits].
func (c *Client) WithLimiter(l Limiter) *Client {
	limited := *c
	limited.limiter = l
	return &limited
}
