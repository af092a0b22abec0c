package writeback

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
)

// outcome is what an error reveals about whether LeadGrid carried out a command.
type outcome int

const (
	notYet   outcome = iota // certainly not, but it may succeed later
	never                   // certainly not, and it never will
	perhaps                 // nobody knows, and LeadGrid may still be at it
	finished                // nobody knows, but LeadGrid is through with it: only a lagging replica can still hide it
	surely                  // it did, although the answer could not be read
)

// judge turns an error into an outcome. wait is how long the error says to wait, 0 if it does not say.
func judge(err error) (o outcome, wait time.Duration) {
	if _, ok := errors.AsType[refusal](err); ok {
		return never, 0
	}
	if e, ok := errors.AsType[*beforeError](err); ok {
		if o, wait = judge(e.err); o == notYet {
			return notYet, wait
		}
		return notYet, 0
	}
	if e, ok := errors.AsType[*leadgridapi.RateLimitError](err); ok {
		return notYet, max(e.RetryAfter, time.Second)
	}
	if e, ok := errors.AsType[*leadgridapi.Error](err); ok {
		return judgeAnswer(e)
	}
	if e, ok := errors.AsType[*leadgridapi.ProtocolError](err); ok {
		if e.Status < 300 {
			return surely, 0
		}
		return notYet, 0 // a redirect, which was not followed
	}
	if leadgridapi.Sent(err) {
		return perhaps, 0
	}
	if errors.Is(err, leadgridapi.ErrInvalidInput) {
		return never, 0
	}
	if e, ok := errors.AsType[*budget.NoTokenError](err); ok {
		return notYet, max(time.Until(e.Until), time.Millisecond)
	}
	if e, ok := errors.AsType[*access.PausedError](err); ok {
		return notYet, max(time.Until(e.ProbeAt), time.Second)
	}
	return notYet, 0
}

func judgeAnswer(e *leadgridapi.Error) (outcome, time.Duration) {
	switch {
	case errors.Is(e, leadgridapi.ErrUnauthorized), errors.Is(e, leadgridapi.ErrPlanRequired), errors.Is(e, leadgridapi.ErrForbidden):
		return notYet, time.Second // the gate, which has closed, says for how long
	case e.Status >= 500 && errors.Is(e, leadgridapi.ErrInternal) && e.Code != "":
		return finished, 0
	case e.Status >= 500, e.Status == http.StatusRequestTimeout:
		return perhaps, 0
	case e.Code != "":
		return never, 0
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity:
		return never, 0
	}
	return notYet, 0 // not LeadGrid's own answer, but that of something in front of it
}

// inWords describes an error for the row's column error, in LeadGrid's own words if there are any. These may quote what a person
// typed, so they must not leave the database.
func inWords(err error) string {
	if e, ok := errors.AsType[*leadgridapi.Error](err); ok && e.Message != "" {
		return fmt.Sprintf("LeadGrid answered %d: %s", e.Status, storable(e.Message))
	}
	if errors.Is(err, context.DeadlineExceeded) && leadgridapi.Sent(err) {
		return "LeadGrid did not answer in time"
	}
	return storable(err.Error())
}
