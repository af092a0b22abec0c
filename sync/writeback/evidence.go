package writeback

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

const (
	// skew is how far LeadGrid's clock may be behind Postgres's: an object created longer than that before a command was sent
	// was not made by it. Up to oldest, that leaves a doubt.
	skew   = 2 * time.Minute
	oldest = 15 * time.Minute
)

// evidence is the result of a look, in ids and times only.
type evidence struct {
	LookedAt   time.Time   `json:"looked_at"`
	Where      []string    `json:"where"`
	Candidates []candidate `json:"candidates"`
}

// candidate is an object that may be what a command made.
type candidate struct {
	ID        string `json:"id"`
	CreatedAt string `json:"created_at,omitempty"`
	Likeness  string `json:"likeness"`

	object json.RawMessage
	equal  bool
	marked bool // carries the command's id, so that nobody else made it
}

func (e *evidence) json() string {
	text, _ := json.Marshal(e) // ids and times always encode
	return string(text)
}

func (e *evidence) orNull() *string {
	if e == nil {
		return nil
	}
	text := e.json()
	return &text
}

// add compares an object with what the command sent, and adds it if it may be the result.
func (e *evidence) add(c *Command, object json.RawMessage) {
	fields := objectOf(object)
	if c.marks(fields) {
		e.Candidates = append(e.Candidates, candidate{ID: textOf(fields, "id"), CreatedAt: textOf(fields, "created_at"),
			Likeness: "marked with the command's id", object: object, equal: true, marked: true})
		return
	}
	how := compare(c.Operation, c.fields(), fields)
	if how == different {
		return
	}
	found := candidate{ID: textOf(fields, "id"), CreatedAt: textOf(fields, "created_at"), object: object, equal: how == equal}
	found.Likeness = "every field as sent"
	if how == similar {
		found.Likeness = "named the same, other fields differ"
	}
	if at, err := mappings.ParseTime(found.CreatedAt); err == nil && c.SentAt != nil {
		switch before := c.SentAt.Sub(at); {
		case before > oldest:
			return
		case before > skew:
			found.equal = false
			found.Likeness += ", but created somewhat earlier"
		}
	}
	e.Candidates = append(e.Candidates, found)
}

// one returns the only marked candidate, or else the only candidate, if it is equal to what was sent; otherwise nil.
func (e *evidence) one() *candidate {
	candidates := slices.DeleteFunc(slices.Clone(e.Candidates), func(other candidate) bool { return !other.marked })
	if len(candidates) == 0 {
		candidates = e.Candidates
	}
	if len(candidates) == 1 && candidates[0].equal {
		return &candidates[0]
	}
	return nil
}
