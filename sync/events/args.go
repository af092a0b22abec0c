// Package events takes in webhook events and follows them up: an Intake, in the receiver, stores events by group commit, and a
// Processor, in the worker, reads from LeadGrid what they name.
package events

import (
	"encoding/hex"
	"math"

	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// The River queues of events. Nothing that may take long shares the first.
const (
	Queue        = "events"
	RecheckQueue = "rechecks"
)

// FlushArgs asks for the events of one flush to be processed. It only names the flush: River indexes a job's arguments, and a
// payload there would cost more than the event itself, and would have to be erased with the person it names.
type FlushArgs struct {
	// Event is the digest, in hexadecimal, of one of the events: their flush has no number before it is stored.
	Event string `json:"event,omitempty"`
	// Flush, in a replay, is the number.
	Flush int64 `json:"flush,omitempty"`
	// After, in a replay, is the observation after which reads must have begun; otherwise that is the flush.
	After int64 `json:"after,omitempty"`
}

// Kind is stored with every job: it never changes.
func (FlushArgs) Kind() string { return "leadgrid_events" }

// InsertOpts puts the job into Queue, and lets it try until LeadGrid answers: with River's 25 attempts, an outage of some hours
// would lose the events.
func (FlushArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: Queue, MaxAttempts: math.MaxInt16}
}

// flushOf names the flush that stores an event.
func flushOf(event digest) FlushArgs { return FlushArgs{Event: hex.EncodeToString(event[:])} }

// RecheckArgs asks for a flush's dossiers to be read once more, when replicas have caught up.
type RecheckArgs struct {
	Flush int64 `json:"flush"`
}

// Kind is stored with every job: it never changes.
func (RecheckArgs) Kind() string { return "leadgrid_recheck" }

// InsertOpts puts the job into RecheckQueue.
func (RecheckArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: RecheckQueue} }

// ListArgs asks for a dossier's notes or links that an event pointed to when the key was not allowed to read them. The job waits
// until it is.
type ListArgs struct {
	List    mappings.Kind `json:"list"`
	Dossier string        `json:"dossier"`
}

// Kind is stored with every job: it never changes.
func (ListArgs) Kind() string { return "leadgrid_list" }

// InsertOpts puts the job into RecheckQueue.
func (ListArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: RecheckQueue, MaxAttempts: math.MaxInt16}
}
