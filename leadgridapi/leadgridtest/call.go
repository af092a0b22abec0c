package leadgridtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// call is one request on its way through: key, limit, plan, scope, faults, the operation, the answer.
type call struct {
	server       *Server
	settings     *settings
	r            *http.Request
	started      time.Time
	organization *Organization
	operation    *operation
	args         []string // the ids in the path
	rng          *rand.Rand
	lag          time.Duration
	acted        bool
	header       http.Header
}

// failure is an error that the API answers with.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.message }

func invalid(format string, args ...any) error {
	return &failure{http.StatusBadRequest, "invalid_body", fmt.Sprintf(format, args...)}
}

var (
	errNotFound = &failure{http.StatusNotFound, "not_found", "Not found"}
	errInternal = &failure{http.StatusInternalServerError, "internal", "Internal error"}
)

// answer is what an operation gives back; a nil body with 204 has none.
type answer struct {
	status int
	body   []byte
}

func (c *call) serve(w http.ResponseWriter) {
	c.header = w.Header()
	path, found := strings.CutPrefix(c.r.URL.EscapedPath(), basePath+"/")
	if redirect := c.settings.Habits.Redirect; found && redirect != "" && redirect != "none" {
		status, _ := strconv.Atoi(redirect)
		c.header.Set("Location", wwwPath+"/"+path+querySuffix(c.r.URL))
		c.finish(w, answer{status: status}, Fault(""))
		return
	}
	if !found {
		path, found = strings.CutPrefix(c.r.URL.EscapedPath(), wwwPath+"/")
	}
	var allowed []string
	if found {
		c.operation, c.args, allowed = route(c.r.Method, path)
	}
	fault, err := c.admit()
	var got answer
	switch {
	case err != nil:
	case fault.before():
	case c.operation == nil && allowed != nil:
		c.header.Set("Allow", strings.Join(allowed, ", "))
		err = &failure{http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed"}
	case c.operation == nil:
		err = errNotFound
	default:
		got, err = c.operation.run(c)
	}
	if fault == ErrorBefore || fault == ErrorAfter {
		err = errInternal
	}
	if err != nil {
		got = c.refusal(err)
	}
	if fault == BadGateway {
		c.header.Set("Content-Type", "text/html")
		got = answer{http.StatusBadGateway, []byte("<html><body><h1>502 Bad Gateway</h1></body></html>\n")}
	}
	c.finish(w, got, fault)
}

func querySuffix(u *url.URL) string {
	if u.RawQuery == "" {
		return ""
	}
	return "?" + u.RawQuery
}

// admit decides whether the request reaches its operation, and which fault it meets.
func (c *call) admit() (Fault, error) {
	s := c.server
	text, bearer := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	key := s.keys[text]
	c.rng = s.dice.roll(c.r.Method + " " + c.r.URL.RequestURI())
	var refused time.Duration
	if bearer && key != nil {
		refused = s.limit(text, c)
	} else {
		c.rateHeaders(c.settings.Limits.requests(), c.settings.Limits.requests())
	}
	s.mu.Unlock()
	if !bearer || key == nil {
		return "", &failure{http.StatusUnauthorized, "unauthorized", "Missing, invalid or expired API key"}
	}
	c.organization = key.organization
	if refused > 0 {
		return "", c.tooMany(refused)
	}
	fault := c.settings.Faults.pick(c.rng)
	if s.opts.OnRequest != nil {
		fault = cmp.Or(s.opts.OnRequest(c.request()), fault)
	}
	if fault == RateLimited {
		return "", c.tooMany(time.Duration(1+c.rng.IntN(3)) * time.Second)
	}
	if habits := &c.settings.Habits; habits.ReplicaLag > 0 && c.rng.Float64() < cmp.Or(habits.ReplicaShare, 1) {
		c.lag = time.Duration(c.rng.Float64() * float64(habits.ReplicaLag))
	}
	c.organization.mu.RLock()
	active := c.organization.active
	c.organization.mu.RUnlock()
	if !active {
		if c.settings.Habits.PlanForbidden {
			return fault, &failure{http.StatusForbidden, "forbidden", "API access requires the Growth plan"}
		}
		return fault, &failure{http.StatusPaymentRequired, "plan_required", "API access requires the Growth plan"}
	}
	if c.operation != nil {
		for _, scope := range c.operation.scopes {
			if !slices.Contains(key.scopes, scope) {
				return fault, &failure{http.StatusForbidden, "forbidden", "The API key lacks the scope " + scope}
			}
		}
	}
	return fault, nil
}

// refusal is the answer to an error.
func (c *call) refusal(err error) answer {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{http.StatusInternalServerError, "internal", err.Error()}
	}
	body := append([]byte(`{"error":{"code":`), appendText(nil, f.code)...)
	body = append(append(body, `,"message":`...), appendText(nil, f.message)...)
	return answer{f.status, append(body, "}}\n"...)}
}

// finish writes the answer, broken as the fault says, and records the request.
func (c *call) finish(w http.ResponseWriter, got answer, fault Fault) {
	status := got.status
	if fault.silent() {
		status = 0
	}
	c.book(status, fault)
	faults := c.settings.Faults
	switch fault {
	case HangBefore, HangAfter:
		c.wait(cmp.Or(faults.HangFor, time.Minute))
		panic(http.ErrAbortHandler)
	case ResetBefore, ResetAfter:
		reset(w)
	case Slow:
		c.wait(time.Duration(c.rng.Float64() * float64(cmp.Or(faults.SlowFor, 2*time.Second))))
	}
	if c.header.Get("Content-Type") == "" && got.body != nil {
		c.header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if fault == Truncated && len(got.body) > 1 {
		c.truncate(w, got)
		return
	}
	if got.body != nil {
		c.header.Set("Content-Length", strconv.Itoa(len(got.body)))
	}
	w.WriteHeader(got.status)
	w.Write(got.body)
}

// truncate sends a part of the body, either with a Content-Length to match, so that only the JSON breaks
// off, or with that of the whole, so that the connection does.
func (c *call) truncate(w http.ResponseWriter, got answer) {
	part := got.body[:1+c.rng.IntN(len(got.body)-1)]
	if c.rng.IntN(2) == 0 {
		c.header.Set("Content-Length", strconv.Itoa(len(part)))
		w.WriteHeader(got.status)
		w.Write(part)
		return
	}
	c.header.Set("Content-Length", strconv.Itoa(len(got.body)))
	w.WriteHeader(got.status)
	w.Write(part)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// wait lasts until the time is up, the caller leaves or the server closes.
func (c *call) wait(d time.Duration) {
	ctx, cancel := context.WithTimeout(c.r.Context(), d)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-c.server.done:
	}
}

// reset closes the connection so that the other side sees it reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
	panic(http.ErrAbortHandler)
}

// book records the request in the ledger and the log.
func (c *call) book(status int, fault Fault) {
	request := c.request()
	request.Status, request.Acted, request.Fault = status, c.acted, fault
	c.server.mu.Lock()
	c.server.ledger.request(request)
	c.server.mu.Unlock()
	c.server.opts.Logger.LogAttrs(c.r.Context(), slog.LevelInfo, "request",
		slog.String("operation", request.Operation), slog.Any("ids", c.args),
		slog.Int("status", status), slog.String("fault", string(fault)),
		slog.Duration("duration", time.Since(c.started)))
}

func (c *call) request() Request {
	r := Request{Time: c.server.opts.Now(), Method: c.r.Method, Path: c.r.URL.RequestURI()}
	if c.operation != nil {
		r.Operation = c.operation.name
		r.IDs = c.args
	}
	if c.organization != nil {
		r.Organization = c.organization.id
	}
	return r
}
