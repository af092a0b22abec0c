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

// forRiver decides, for all jobs, what River makes of an error. A job that only has to wait is snoozed, which uses up no
// attempt: for the budget, until LeadGrid takes the key, or for a replica that lags. Any other is retried with growing pauses.
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

// waits reports whether a job only has to wait, and for how long.
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

// refused reports whether LeadGrid does not take the key, or it reads another organization.
func refused(err error) bool {
	return errors.Is(err, leadgridapi.ErrUnauthorized) || errors.Is(err, leadgridapi.ErrPlanRequired) ||
		errors.Is(err, leadgridapi.ErrForbidden) || errors.Is(err, mirror.ErrOtherOrganization)
}

// fatal reports whether every other request would meet the error too.
func fatal(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	_, lagging := errors.AsType[*events.LaggingError](err)
	_, wait := waits(err)
	return wait && !lagging
}
