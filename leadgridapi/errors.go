package leadgridapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The documented refusals, for [errors.Is].
var (
	ErrUnauthorized     = errors.New("leadgrid: the key is missing, wrong or expired")
	ErrPlanRequired     = errors.New("leadgrid: the organization's plan has no API access")
	ErrForbidden        = errors.New("leadgrid: the key lacks the scope")
	ErrNotFound         = errors.New("leadgrid: no such object in this organization")
	ErrInvalidBody      = errors.New("leadgrid: the request was not accepted")
	ErrDuplicateContact = errors.New("leadgrid: a contact with this e-mail exists")
	ErrRateLimited      = errors.New("leadgrid: too many requests")
	ErrInternal         = errors.New("leadgrid: an internal error of LeadGrid")
)

var (
	// ErrInvalidInput means that the client itself refuses to send a request,
	// because of an empty id, a CV that is no PDF, or a value that has no JSON.
	ErrInvalidInput = errors.New("leadgrid: invalid input")

	// ErrNoKey means that there is no key to call LeadGrid with.
	ErrNoKey = errors.New("leadgrid: no API key")

	// ErrRedirect is wrapped in the *ProtocolError for a redirect, with which
	// LeadGrid's other host names answer. The base URL must name the final
	// place.
	ErrRedirect = errors.New("redirected")
)

var byCode = map[string]error{
	"unauthorized":      ErrUnauthorized,
	"plan_required":     ErrPlanRequired,
	"forbidden":         ErrForbidden,
	"not_found":         ErrNotFound,
	"invalid_body":      ErrInvalidBody,
	"duplicate_contact": ErrDuplicateContact,
	"rate_limited":      ErrRateLimited,
	"internal":          ErrInternal,
}

// byStatus is for answers without a documented code, perhaps from a proxy. It
// leaves out statuses that would judge an object or a request: a 404 that
// LeadGrid did not write proves nothing about a dossier.
var byStatus = map[int]error{
	http.StatusUnauthorized:        ErrUnauthorized,
	http.StatusPaymentRequired:     ErrPlanRequired,
	http.StatusForbidden:           ErrForbidden,
	http.StatusTooManyRequests:     ErrRateLimited,
	http.StatusInternalServerError: ErrInternal,
}

// An Error is an answer with a status of 400 or more. With [errors.Is] it matches
// the documented refusal that its code, or else its status, stands for.
//
// Its text leaves out Message, which may quote what a person typed.
type Error struct {
	Status     int           // the HTTP status
	Code       string        // LeadGrid's code, empty if the body held none
	Message    string        // LeadGrid's words, for people
	Method     string        // the request's method
	Path       string        // the request's path below the base URL, without its query
	RetryAfter time.Duration // how long LeadGrid asks to wait; 0 if it does not say, but [DefaultRetryAfter] on a 429
}

// newError reads a refusal. It does not insist on JSON: a proxy's page, while
// LeadGrid is down, is still a refusal with a status.
func newError(r request, seen Observation, body []byte, key string) error {
	var said struct {
		Error struct{ Code, Message any }
	}
	_ = json.Unmarshal(body, &said)
	code, _ := said.Error.Code.(string)
	message, _ := said.Error.Message.(string)
	e := &Error{
		Status:     seen.Status,
		Code:       redact(code, key),
		Message:    redact(message, key),
		Method:     r.method,
		Path:       r.path,
		RetryAfter: seen.RetryAfter,
	}
	if e.Status == http.StatusTooManyRequests {
		return &RateLimitError{RetryAfter: e.RetryAfter, Err: e}
	}
	return e
}

func (e *Error) Error() string {
	text := fmt.Sprintf("leadgrid: %s %s: %d", e.Method, e.Path, e.Status)
	if _, documented := byCode[e.Code]; documented {
		return text + " " + e.Code
	}
	return text + " " + http.StatusText(e.Status)
}

// Is reports whether target is the documented refusal that e stands for.
func (e *Error) Is(target error) bool {
	refusal, documented := byCode[e.Code]
	if !documented {
		refusal = byStatus[e.Status]
	}
	return refusal != nil && refusal == target
}

// A RateLimitError is a refusal for too many requests.
type RateLimitError struct {
	RetryAfter time.Duration // how long to wait: as LeadGrid says, or [DefaultRetryAfter]
	Err        *Error
}

func (e *RateLimitError) Error() string {
	return fmt.Sprintf("%v, retry after %v", e.Err, e.RetryAfter)
}

// Unwrap returns the *Error.
func (e *RateLimitError) Unwrap() error { return e.Err }

// A ProtocolError is an answer below 400 that is not what LeadGrid documents: cut
// short, not JSON, of another shape, too large, or a redirect. If Status is 2xx,
// a write was most likely carried out, but its result is unknown.
type ProtocolError struct {
	Method, Path string
	Status       int
	Err          error
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("leadgrid: %s %s: %d: %v", e.Method, e.Path, e.Status, e.Err)
}

// Unwrap returns what was wrong with the answer.
func (e *ProtocolError) Unwrap() error { return e.Err }

// A TransportError means that no answer came.
type TransportError struct {
	Method, Path string
	Sent         bool // whether LeadGrid may have seen, and done, the request
	Err          error
}

func (e *TransportError) Error() string {
	return fmt.Sprintf("leadgrid: %s %s: no answer: %v", e.Method, e.Path, e.Err)
}

// Unwrap returns what the network said.
func (e *TransportError) Unwrap() error { return e.Err }

// Temporary reports whether a read that ended in err may succeed when it is sent again: LeadGrid is in trouble, or the network
// is. A refusal, a rate limit included, is not temporary in that sense.
func Temporary(err error) bool {
	if errors.Is(err, ErrRedirect) {
		return false
	}
	if refusal, ok := errors.AsType[*Error](err); ok {
		// An answer without LeadGrid's own code came from something in between, or lost its body on the way.
		return refusal.Status >= 500 || refusal.Code == "" && refusal.Status == http.StatusNotFound
	}
	_, lost := errors.AsType[*TransportError](err)
	_, garbled := errors.AsType[*ProtocolError](err)
	return lost || garbled
}

// Sent reports whether LeadGrid may have seen the request that ended in err. If
// not, it is safe to send it again.
func Sent(err error) bool {
	if e, ok := errors.AsType[*TransportError](err); ok {
		return e.Sent
	}
	if _, ok := errors.AsType[*ProtocolError](err); ok {
		return true
	}
	_, ok := errors.AsType[*Error](err)
	return ok
}

// withoutSecrets removes the request's URL from err, because its query may hold
// a person's name, and the key, in case a transport quotes it.
func withoutSecrets(err error, key string) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if text := err.Error(); redact(text, key) != text {
		return errors.New(redact(text, key))
	}
	return err
}

// redact removes the key from a text. LeadGrid's keys are far longer than 8
// characters; a shorter one, as in a test, would match inside words.
func redact(text, key string) string {
	if len(key) < 8 {
		return text
	}
	return strings.ReplaceAll(text, key, "[key]")
}

// redirectTo says where resp points, as far as that helps to correct the base
// URL. The rest of Location may repeat the query, and so a person's name.
func redirectTo(resp *http.Response) error {
	if to, err := resp.Location(); err == nil {
		return fmt.Errorf("%w to %s://%s", ErrRedirect, to.Scheme, to.Host)
	}
	return ErrRedirect
}
