package leadgridtest

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// window is one key's use of the rate limit.
type window struct {
	start time.Time
	used  int
}

// limit counts a request against its key's window and sets the headers. It returns how long the key has to
// wait when nothing is left, otherwise 0.
func (s *Server) limit(key string, c *call) time.Duration {
	limits := c.settings.Limits
	now := s.opts.Now()
	w := s.windows[key]
	if w == nil || !now.Before(w.start.Add(limits.window())) || now.Before(w.start) {
		w = &window{start: now}
		s.windows[key] = w
	}
	if w.used >= limits.requests() {
		c.rateHeaders(limits.requests(), 0)
		return max(w.start.Add(limits.window()).Sub(now), time.Nanosecond)
	}
	w.used++
	c.rateHeaders(limits.requests(), limits.requests()-w.used)
	return 0
}

func (c *call) rateHeaders(limit, remaining int) {
	first, second := strconv.Itoa(limit), strconv.Itoa(remaining)
	switch c.settings.Habits.RateHeaders {
	case "absent":
		return
	case "wrong":
		first, second = strconv.Itoa(10*limit), strconv.Itoa(10*limit-1)
	case "rubbish":
		first, second = "plenty", "-1e9"
	}
	c.header.Set("X-RateLimit-Limit", first)
	c.header.Set("X-RateLimit-Remaining", second)
}

// tooMany is the 429 for a caller that has to wait; Retry-After says how long, if the habit lets it.
func (c *call) tooMany(wait time.Duration) error {
	seconds := int(math.Ceil(wait.Seconds()))
	switch c.settings.Habits.RetryAfter {
	case "none":
	case "date":
		until := c.server.opts.Now().Add(wait + time.Second - time.Nanosecond).UTC()
		c.header.Set("Retry-After", until.Format(http.TimeFormat))
	case "rubbish":
		c.header.Set("Retry-After", "soon")
	case "huge":
		c.header.Set("Retry-After", strconv.Itoa(7200+seconds))
	default:
		c.header.Set("Retry-After", strconv.Itoa(seconds))
	}
	return &failure{http.StatusTooManyRequests, "rate_limited", "Too many requests"}
}
