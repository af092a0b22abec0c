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

// refusingRedirects copies h, or makes a client of its own if there is none.
// Go would turn a redirected POST into a GET without its body, and carry the
// key along.
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

// WithLimiter returns a copy of c that asks l before each request and tells it
// of each answer. The copy shares c's connections and what [Client.Limits]
// remembers.
func (c *Client) WithLimiter(l Limiter) *Client {
	limited := *c
	limited.limiter = l
	return &limited
}
