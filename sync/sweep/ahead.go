package sweep

import (
	"context"
	"slices"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// pagesAhead is how many pages of a list are read before they are committed, and so how many are committed at once.
const pagesAhead = 16

// reading is a list being read, page by page, ahead of what has been committed. It goes on as long as the pages themselves
// say where the next one begins, and ends with the first that has to be looked into.
type reading struct {
	pages  chan *read
	cancel context.CancelFunc
}

// read is one page as it came, or why it did not.
type read struct {
	asked  window
	answer page
	read   mirror.Read
	err    error
	ready  chan struct{} // closed once read is prepared
}

// readAhead begins to read where the walk stands.
func (w *Sweeper) readAhead(ctx context.Context, s *Sweep, l listing) *reading {
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{pages: make(chan *read, pagesAhead), cancel: cancel}
	k, thin, deadline := *s.Progress.Walk, slices.Contains(s.Progress.Thin, l.kind), s.deadline
	sweep, pass := s.ID, k.Pass
	go func() {
		defer close(r.pages)
		for {
			asked := k.next()
			at, answer, err := l.fetch(ctx, asked)
			next := &read{asked: asked, answer: answer, err: err, ready: make(chan struct{})}
			go func() { // while the page behind it is asked for
				defer close(next.ready)
				if err == nil {
					next.read = w.mirror.Prepare(mirror.Read{
						Observation: at, Kind: l.kind, Endpoint: l.endpoint, Objects: answer.objects, Whole: !thin,
						Sweep: sweep, Pass: pass, Filter: l.filter,
					})
				}
			}()
			select {
			case r.pages <- next:
			case <-ctx.Done():
				return
			}
			if err != nil || k.bracketed || k.doubts(answer) || k.take(asked, answer, true) || time.Now().After(deadline) {
				return
			}
		}
	}()
	return r
}

// next waits for a page and takes with it what else has come; none when the reading is over.
func (r *reading) next() (pages []*read) {
	for page := range r.pages {
		<-page.ready
		pages = append(pages, page)
		if len(r.pages) == 0 || len(pages) == pagesAhead {
			break
		}
	}
	return pages
}

// stop gives up what has not been taken.
func (s *Sweep) stop() {
	if s.reading != nil {
		s.reading.cancel()
		s.reading = nil
	}
}
