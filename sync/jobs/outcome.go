package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// forRiver turns what a job met into what River does with it; nowhere else is that decided. What must only wait comes
// back by itself and uses up no attempt: a spent budget, a refusal by LeadGrid, a replica that lags. Anything else is
// retried with growing pauses.
func forRiver(err error) error {
	if err == nil {
		return nil
	}
	if wait, ok := waits(err); ok {
		return river.JobSnooze(min(max(wait, 0), longestSnooze))
	}
	return err
}

// longestSnooze keeps a job from sleeping through a change for the better, such as a new key.
const longestSnooze = time.Minute

func waits(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*budget.NoTokenError](err); ok {
		return time.Until(e.Until), true
	}
	if e, ok := errors.AsType[*leadgridapi.RateLimitError](err); ok {
		return e.RetryAfter, true
	}
	if e, ok := errors.AsType[*access.PausedError](err); ok {
		return time.Until(e.ProbeAt), true
	}
	if e, ok := errors.AsType[*sweep.WaitError](err); ok {
		return time.Until(e.Until), true
	}
	if _, ok := errors.AsType[*events.LaggingError](err); ok {
		return 5 * time.Second, true
	}
	if errors.Is(err, mirror.ErrOtherMapping) {
		return longestSnooze, true // until the program is restarted
	}
	if refused(err) {
		return time.Second, true // the gate, which has closed, says for how long
	}
	return 0, false
}

// refused reports an answer that says that this key may not ask.
func refused(err error) bool {
	return errors.Is(err, leadgridapi.ErrUnauthorized) || errors.Is(err, leadgridapi.ErrPlanRequired) ||
		errors.Is(err, leadgridapi.ErrForbidden) || errors.Is(err, mirror.ErrOtherOrganization)
}

// fatal reports an error that every other request would meet as well, so that going on makes no sense.
func fatal(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	_, lagging := errors.AsType[*events.LaggingError](err)
	_, wait := waits(err)
	return wait && !lagging
}
