package leadgridapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// DefaultRetryAfter is how long to wait after a 429 without a readable
// Retry-After.
const DefaultRetryAfter = time.Minute

// A Limiter decides when requests may be sent, for example to share one rate
// budget among many processes. Each successful Acquire is followed by exactly
// one Observe.
type Limiter interface {
	// Acquire is called before every request. It may wait, within ctx. If it
	// returns an error, nothing is sent, and the client returns that error,
	// wrapped.
	Acquire(ctx context.Context) error

	// Observe is called for every answer as soon as its headers have arrived,
	// and for every request without an answer.
	Observe(Observation)
}

// An Observation is what one request showed about LeadGrid's limits.
type Observation struct {
	Status         int           // 0 if there was no answer
	Limit          *int          // X-RateLimit-Limit, nil if missing or unreadable
	Remaining      *int          // X-RateLimit-Remaining, likewise
	RetryAfter     time.Duration // as in [Error]
	Sent, Answered time.Time     // when the request began, and when it was answered or given up
	Err            error         // the *TransportError if there was no answer
}

// Limits are the rate limits that LeadGrid announced last.
type Limits struct {
	Limit     *int      // X-RateLimit-Limit, nil if missing or unreadable
	Remaining *int      // X-RateLimit-Remaining, likewise
	At        time.Time // when the answer with them came; zero before the first
}

// Limits returns what the latest answer said about the key's rate limits.
func (c *Client) Limits() Limits {
	if l := c.limits.Load(); l != nil {
		return *l
	}
	return Limits{}
}

func (c *Client) observe(o Observation) {
	if o.Limit != nil || o.Remaining != nil {
		c.limits.Store(&Limits{Limit: o.Limit, Remaining: o.Remaining, At: o.Answered})
	}
	if c.limiter != nil {
		c.limiter.Observe(o)
	}
}

func observation(resp *http.Response, sent, answered time.Time) Observation {
	o := Observation{
		Status:    resp.StatusCode,
		Limit:     headerInt(resp.Header, "X-RateLimit-Limit"),
		Remaining: headerInt(resp.Header, "X-RateLimit-Remaining"),
		Sent:      sent,
		Answered:  answered,
	}
	wait, ok := retryAfter(resp.Header, answered)
	switch {
	case ok:
		o.RetryAfter = wait
	case o.Status == http.StatusTooManyRequests:
		o.RetryAfter = DefaultRetryAfter
	}
	return o
}

func headerInt(h http.Header, name string) *int {
	n, err := strconv.Atoi(strings.TrimSpace(h.Get(name)))
	if err != nil {
		return nil
	}
	return &n
}

// retryAfter reads Retry-After as seconds, with or without a fraction, or as an
// HTTP date. A date is compared with the answer's own Date where there is one, so
// that the two clocks need not agree.
func retryAfter(h http.Header, now time.Time) (wait time.Duration, ok bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	// ParseUint takes no sign; more than 32 bits of seconds is rubbish, not a wait.
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if whole, fraction, ok := strings.Cut(value, "."); ok && strings.Trim(whole+fraction, "0123456789") == "" {
		wait, err := time.ParseDuration(value + "s")
		return wait, err == nil
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, at.Sub(now)), true
}
