package leadgridtest

import (
	"slices"
	"time"
)

// Request is one request as the server saw it.
type Request struct {
	Time         time.Time
	Operation    string // such as dossiers.list, or empty for a path that is none
	IDs          []string
	Method, Path string
	Status       int  // 0 when the caller got no answer
	Acted        bool // something was created, changed or removed
	Fault        Fault
	Organization string // the id of the one the key belonged to, or empty
}

// Create is one create that was really executed. Two with the same body are a double.
type Create struct {
	Time         time.Time
	Operation    string
	ID           string
	Organization string
	Body         string // the fields as JSON with sorted keys, without the CV
}

// ledger of what happened; guarded by Server.mu.
type ledger struct {
	size     int
	requests []Request
	creates  []Create
}

func (l *ledger) request(r Request) { l.requests = keep(append(l.requests, r), l.size) }

func (l *ledger) create(c Create) { l.creates = keep(append(l.creates, c), l.size) }

// keep drops the oldest half of what is more than wanted, now and then.
func keep[T any](all []T, size int) []T {
	if size > 0 && len(all) > 2*size {
		return slices.Clone(all[len(all)-size:])
	}
	return all
}

// Ledger returns the requests so far, in the order in which they were answered.
func (s *Server) Ledger() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ledger.requests)
}

// Creates returns the creates executed through the API so far, whatever their caller was told.
func (s *Server) Creates() []Create {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ledger.creates)
}
