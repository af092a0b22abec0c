// Package events stores webhook events by group commit, and reads from LeadGrid what they point to.
package events

import (
	"math"

	"github.com/riverqueue/river"
)

// Queue is the River queue in which events are processed, apart from everything that may take long.
const Queue = "events"

// FlushArgs asks for the events of one flush to be processed. It holds a number only: River indexes its arguments, and a
// payload in them would cost more than the event itself (and would have to be erased with the person it names).
type FlushArgs struct {
	Flush int64 `json:"flush"`
	// After is the observation that reads must have begun after, where that is not the flush itself: a replay's.
	After int64 `json:"after,omitempty"`
}

// Kind is stored with every job: it never changes.
func (FlushArgs) Kind() string { return "leadgrid_events" }

// InsertOpts puts the job where the events are processed, and lets it try until LeadGrid answers: River's 25 attempts
// would throw the events away within hours.
func (FlushArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: Queue, MaxAttempts: math.MaxInt16}
}
