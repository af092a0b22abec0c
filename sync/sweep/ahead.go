package sweep

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

const (
	// pagesAhead is how many pages of a list are read before they are committed, and so how many are committed at once.
	pagesAhead = 16
	// sideBySide is how many of them are asked for at once.
	sideBySide = 3
)

// reading is a list being read, page by page, ahead of what has been committed. It goes on as long as the pages themselves
// say where the next one begins, and ends with the first that has to be looked into.
type reading struct {
	pages    chan *read
	requests atomic.Int64 // that were sent and are not counted yet
	cancel   context.CancelFunc
}

// read is one page as it came, or why it did not.
type read struct {
	asked    window
	answer   page
	read     mirror.Read
	err      error
	answered chan struct{} // closed once answer and err are there
	ready    chan struct{} // closed once read is prepared
	cancel   context.CancelFunc
}

// readAhead begins to read where the walk stands.
func (w *Sweeper) readAhead(ctx context.Context, s *Sweep, l listing) *reading {
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{pages: make(chan *read, pagesAhead), cancel: cancel}
	k, thin, deadline := *s.Progress.Walk, slices.Contains(s.Progress.Thin, l.kind), s.deadline
	sweep, pass := s.ID, k.Pass
	ask := func(asked window) *read {
		ctx, cancel := context.WithCancel(ctx)
		page := &read{asked: asked, answered: make(chan struct{}), ready: make(chan struct{}), cancel: cancel}
		r.requests.Add(1)
		go func() {
			defer cancel()
			defer close(page.ready)
			var at mirror.Observation
			at, page.answer, page.err = l.fetch(ctx, asked)
			close(page.answered)
			if page.err == nil {
				page.read = w.mirror.Prepare(mirror.Read{
					Observation: at, Kind: l.kind, Endpoint: l.endpoint, Objects: page.answer.objects, Whole: !thin,
					Sweep: sweep, Pass: pass, Filter: l.filter,
				})
			}
		}()
		return page
	}
	go func() {
		defer close(r.pages)
		var asked []*read
		for n := 1; ; n = sideBySide { // the first alone: it may be the probe of a refused scope
			for i, window := range k.ahead(n) {
				if i < len(asked) && asked[i].asked != window {
					for _, wrong := range asked[i:] {
						wrong.cancel()
					}
					asked = asked[:i]
				}
				if i == len(asked) {
					asked = append(asked, ask(window))
				}
			}
			next := asked[0]
			asked = asked[1:]
			<-next.answered
			select {
			case r.pages <- next:
			case <-ctx.Done():
				return
			}
			if next.err != nil || k.bracketed || k.doubts(next.answer) || k.take(next.asked, next.answer, true) || time.Now().After(deadline) {
				return
			}
		}
	}()
	return r
}

// ahead gives up to n windows to read next. Those behind the first are what comes next if the pages before them are as full as
// they were asked for, where LeadGrid counts rows beyond them: they can be read side by side. Whichever of two pages is read
// first, rows that were added or removed ahead of them show in their overlap; one that moves meanwhile shows in the count.
func (k walk) ahead(n int) []window {
	windows := []window{k.next()}
	for k.Total != nil && len(windows) < n {
		k.Next, k.Back = windows[len(windows)-1].end(), 0
		if k.Next >= *k.Total {
			break
		}
		windows = append(windows, k.next())
	}
	return windows
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
		s.Requests += s.reading.requests.Swap(0)
		s.reading = nil
	}
}
