package budget

import (
	"cmp"
	"math"
	"time"
)

const (
	// margin keeps the pace a little below what is believed to be the limit, so that jitter does not cross it.
	margin = 0.985
	// firstPace is how many requests a second are sent before anything is known, and doubling how soon that doubles
	// while nothing refuses.
	firstPace = 10
	doubling  = 500 * time.Millisecond
	maxPace   = 1e6
	// firstWindow is what an announced limit is taken to be per, until readings show it. An assumption: LeadGrid's
	// numbers are not published, and a minute is what most services mean.
	firstWindow = time.Minute
	// distrust is how long announced limits are ignored after they were contradicted twice.
	distrust = 10 * time.Minute
)

// Learned is the part of the state that LeadGrid's answers have taught.
type Learned struct {
	BlockedUntil time.Time `json:"blocked_until,omitzero"`
	BlockedWhy   string    `json:"blocked_why,omitempty"`
	RefusedAt    time.Time `json:"refused_at,omitzero"`
	Refusals     int64     `json:"refusals,omitempty"`

	// Limit is the announced limit, 0 if none is.
	Limit int `json:"limit,omitempty"`
	// Window is the length of LeadGrid's fixed window, once two of its edges were seen.
	Window time.Duration `json:"window,omitempty"`
	// Presumed is what the limit is taken to be per while no window has been seen, and Since when that began.
	Presumed time.Duration `json:"presumed,omitempty"`
	Since    time.Time     `json:"since,omitzero"`
	// Edge is when the announced remaining last jumped back.
	Edge Span `json:"edge,omitzero"`
	// Gradual says that the server gives tokens back one by one (a sliding window or a bucket), not all at once.
	Gradual bool `json:"gradual,omitempty"`
	// Pace is the requests a second held to be sustainable.
	Pace float64 `json:"pace,omitempty"`
	// Contradicted counts refusals that the announced remaining did not foretell; Distrusted is until when it is ignored.
	Contradicted int       `json:"contradicted,omitempty"`
	Distrusted   time.Time `json:"distrusted,omitzero"`

	// Ceiling is the pace measured between two refusals, Plateau how long regaining it takes.
	Ceiling float64       `json:"ceiling,omitempty"`
	Plateau time.Duration `json:"plateau,omitempty"`
	// Grown is for how long requests have waited for the pace since the last refusal, Pressed when one last did.
	Grown   time.Duration `json:"grown,omitempty"`
	Pressed time.Time     `json:"pressed,omitzero"`

	// Cycle measures from one end of a block to the next, Block over some requests.
	Cycle   Measure `json:"cycle,omitzero"`
	Block   Measure `json:"block,omitzero"`
	Reading Reading `json:"reading,omitzero"`
}

// Span is an interval in which something happened.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

func (e Span) mid() time.Time { return e.From.Add(e.To.Sub(e.From) / 2) }

// Reading is an announced remaining, and the request whose answer told it: LeadGrid counted it between the two times.
type Reading struct {
	Remaining int       `json:"remaining"`
	Sent      time.Time `json:"sent"`
	Answered  time.Time `json:"answered"`
}

// Measure counts accepted requests since a moment.
type Measure struct {
	Start    time.Time `json:"start,omitzero"`
	Accepted int       `json:"accepted,omitempty"`
	// First and Low are the announced remaining at the start and the lowest since, Edge whether it jumped back.
	First int  `json:"first,omitempty"`
	Low   int  `json:"low,omitempty"`
	Edge  bool `json:"edge,omitempty"`
}

// Seen is one answer of LeadGrid (or none: Status 0).
type Seen struct {
	Sent, Answered time.Time
	Status         int
	// Limit and Remaining are what the headers announced, negative when they did not.
	Limit, Remaining int
	RetryAfter       time.Duration
}

// Observe learns from one answer. Answers may come in any order.
func (s *State) Observe(o Seen) {
	if o.Status == 0 {
		return
	}
	if s.Cycle.Start.IsZero() {
		s.Cycle.Start = o.Sent
	}
	if o.Limit > 0 {
		s.announced(o)
		if 0 <= o.Remaining && o.Remaining <= o.Limit {
			s.read(o)
		}
	}
	if o.Status == 429 {
		s.refused(o)
		return
	}
	s.Cycle.Accepted++
	if s.Limit > 0 {
		s.Block.Accepted++
		s.judge(o.Answered)
	}
}

// observeAll learns from answers whose times are by a clock that is behind by ahead.
func (s *State) observeAll(seen []Seen, ahead time.Duration) {
	for _, o := range seen {
		o.Sent, o.Answered = o.Sent.Add(ahead).Round(time.Microsecond), o.Answered.Add(ahead).Round(time.Microsecond)
		s.Observe(o)
	}
}

// announced takes in a limit. A changed one scales what was learned of the old.
func (s *State) announced(o Seen) {
	if s.Limit == o.Limit {
		return
	}
	if s.Limit == 0 {
		s.Presumed, s.Since = firstWindow, o.Sent
	}
	if s.Pace > 0 {
		s.Pace *= float64(o.Limit) / float64(s.Limit)
	}
	s.Limit, s.Block = o.Limit, Measure{}
}

// read takes in an announced remaining, if it is newer than the last in LeadGrid's own order. Of two requests that were
// under way together either may have been counted first: the lower figure is kept.
func (s *State) read(o Seen) {
	r := Reading{Remaining: o.Remaining, Sent: o.Sent, Answered: o.Answered}
	old := s.Reading
	switch {
	case old.Sent.IsZero():
	case !r.Sent.Before(old.Answered):
		lack := s.Limit - old.Remaining
		if gain := r.Remaining - old.Remaining; lack >= 3 && gain*4 >= lack*3 {
			s.edge(Span{From: old.Sent, To: r.Answered})
		}
	case !old.Sent.Before(r.Answered) || r.Remaining >= old.Remaining:
		return
	}
	s.Reading = r
	if s.Block.Start.IsZero() {
		s.Block = Measure{Start: r.Answered, First: r.Remaining, Low: r.Remaining}
	}
	s.Block.Low = min(s.Block.Low, r.Remaining)
}

// edge learns from a jump back of the announced remaining: a new fixed window began then.
func (s *State) edge(e Span) {
	s.Block.Edge, s.Gradual = true, false
	// The end of a Retry-After is such an edge too, known to about a second.
	if back := s.BlockedUntil.Add(-2 * time.Second); back.After(e.From) && back.Before(e.To) {
		e.From = back
	}
	last := s.Edge
	s.Edge = e
	switch {
	case last.To.IsZero():
		return
	case !e.From.After(last.To):
		s.Edge = Span{From: later(last.From, e.From), To: earlier(last.To, e.To)}
		return
	}
	apart := e.mid().Sub(last.mid())
	if s.Window > 0 {
		if n := (apart + s.Window/2) / s.Window; n >= 1 {
			if off := apart/n - s.Window; off.Abs() <= s.Window/6 {
				s.Window += off / 3
				s.Pace = margin * float64(s.Limit) / s.Window.Seconds()
				return
			}
		}
	}
	s.Window = apart
	s.Pace = margin * float64(s.Limit) / s.Window.Seconds()
}

// judge looks at a stretch of accepted requests: are tokens given back while it lasts, and is there room for more?
func (s *State) judge(now time.Time) {
	b := s.Block
	if b.Start.IsZero() || b.Accepted < 6 {
		return
	}
	back := float64(s.Reading.Remaining-b.First+b.Accepted) / float64(b.Accepted)
	if !b.Edge {
		switch {
		case back >= 0.5:
			s.Gradual = true
		case back <= 0.1:
			s.Gradual = false
		}
	}
	took := now.Sub(b.Start).Seconds()
	floor := 1 + s.Limit/50
	switch {
	case s.Window > 0:
	case back >= 0.8 && b.Low > floor && !s.Pressed.Before(b.Start):
		room := margin * float64(s.Limit) / float64(max(1, s.Limit-b.Low))
		if f := min(2, room); f > 1.01 {
			s.Pace = s.announcedPace(now) * f
		}
	case s.Gradual && b.Low < floor && took > 1:
		s.Pace = margin * max(back, 0.5) * float64(b.Accepted) / took
	case b.Accepted < s.Limit/4:
		return
	}
	s.Block = Measure{Start: now, First: s.Reading.Remaining, Low: s.Reading.Remaining}
}

// refused obeys a 429 and learns from it.
func (s *State) refused(o Seen) {
	s.Refusals++
	until := o.Answered.Add(o.RetryAfter)
	known := o.Sent.Before(s.RefusedAt) || s.Blocked(o.Sent)
	if until.After(s.BlockedUntil) {
		s.BlockedUntil = until
		s.BlockedWhy = refusalWhy(o.RetryAfter)
	}
	if known {
		return // sent before this block was known: it tells nothing new
	}
	s.RefusedAt = o.Answered
	if foretold := o.Remaining == 0 || s.Reading.Remaining-s.out() < max(3, s.Limit/10); s.Limit > 0 && !foretold {
		s.Contradicted++
		if s.Contradicted >= 2 {
			s.Contradicted, s.Distrusted = 0, o.Answered.Add(distrust)
		}
	}
	took := until.Sub(s.Cycle.Start)
	measured := float64(s.Cycle.Accepted) / took.Seconds()
	before := s.guessedPace()
	s.Ceiling = before / 2
	if took >= 2*time.Second && s.Cycle.Accepted > 0 {
		s.Ceiling = measured
	}
	s.Plateau = min(max(2*took, 30*time.Second), 10*time.Minute)
	s.Grown = 0
	s.Cycle = Measure{Start: until}
	s.Block = Measure{}
	if s.Window == 0 && o.RetryAfter > s.Presumed && !s.Gradual {
		s.presume(o.Answered, roundUp(o.RetryAfter))
	}
}

func refusalWhy(retryAfter time.Duration) string {
	return "LeadGrid refused a request (429) and asked to wait " + retryAfter.String()
}

// presume takes the limit to be per a longer time than before.
func (s *State) presume(now time.Time, window time.Duration) {
	s.Presumed, s.Since, s.Pace = window, now, 0
}

// roundUp returns the smallest usual window that is not shorter than d.
func roundUp(d time.Duration) time.Duration {
	for _, w := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour} {
		if d <= w {
			return w
		}
	}
	return d
}

// pressed notes that requests wait for the pace: only then does waiting for room make it grow.
func (s *State) pressed(now time.Time) {
	if gap := now.Sub(s.Pressed); gap > 0 {
		s.Grown += min(gap, time.Second)
		s.Pressed = now
	}
	if s.Limit > 0 && s.Window == 0 && !s.Gradual && now.Sub(s.Since) > s.Presumed && s.Edge.To.IsZero() {
		s.presume(now, roundUp(s.Presumed+1))
	}
}

// pace is how many requests a second may be sent now.
func (s *State) pace(now time.Time) float64 {
	if s.trusted(now) {
		return s.announcedPace(now)
	}
	return s.guessedPace()
}

// trusted says whether announced limits are followed.
func (s *State) trusted(now time.Time) bool {
	return s.Limit > 0 && !s.Reading.Sent.IsZero() && !now.Before(s.Distrusted)
}

// announcedPace follows the headers.
func (s *State) announcedPace(now time.Time) float64 {
	pace := s.Pace
	if pace == 0 {
		// No window has been seen yet: spend half of what is left in the time that it is presumed to last, quickly
		// at first. Whatever the window turns out to be, this neither runs dry nor learns nothing.
		left := float64(s.Reading.Remaining)
		if pace = left / 2 / s.Presumed.Seconds(); left > float64(s.Limit)/2 && s.Presumed == firstWindow {
			pace = max(pace, firstPace)
		}
		if !s.Edge.To.IsZero() {
			pace = max(pace, margin*float64(s.Limit)/s.Presumed.Seconds())
		}
	}
	if edge, known := s.nextEdge(now); known {
		left := max(edge.Sub(now).Seconds(), 0.1)
		pace = min(pace, max(float64(s.Reading.Remaining-s.out()), 1)/left)
	}
	return max(pace, 1e-4)
}

// guessedPace goes by refusals alone: doubling until the first one; after one half of what was measured, quickly back to
// nearly that, and from there slowly and then faster beyond (CUBIC's curve).
func (s *State) guessedPace() float64 {
	if s.Ceiling == 0 {
		return min(firstPace*math.Exp2(s.Grown.Seconds()/doubling.Seconds()), maxPace)
	}
	x := s.Grown.Seconds()/cmp.Or(s.Plateau, time.Minute).Seconds() - 1
	return min(max(s.Ceiling*(0.97+0.47*x*x*x), 1e-3), maxPace)
}

// nextEdge says when the fixed window that now is in ends, as far as that can be foretold.
func (s *State) nextEdge(now time.Time) (time.Time, bool) {
	if s.Window == 0 || s.Edge.To.IsZero() {
		return time.Time{}, false
	}
	n := now.Sub(s.Edge.To)/s.Window + 1
	return s.Edge.To.Add(n * s.Window), true
}

// depth is how many tokens may be saved up and spent at once.
func (s *State) depth(pace float64) float64 {
	if s.Limit > 0 {
		return max(1, min(burst*float64(s.Limit), float64(s.Reading.Remaining)/2))
	}
	return max(1, pace/10)
}

// room is how many tokens LeadGrid's last answer leaves, and when there may be more if there are none.
func (s *State) room(now time.Time) (int, time.Time) {
	const plenty = 1 << 30
	if !s.trusted(now) {
		return plenty, now
	}
	out := s.out()
	left := s.Reading.Remaining - out
	if !now.Before(s.BlockedUntil) && s.BlockedUntil.After(s.Reading.Answered) {
		// Since a block ended nothing was read: a few requests may go and see.
		return max(2-out, 0), now.Add(horizon)
	}
	if s.Gradual {
		left += int(now.Sub(s.Reading.Answered).Seconds() * s.announcedPace(now) / margin)
		return min(left, s.Limit-out), now.Add(seconds(1 / s.announcedPace(now)))
	}
	if edge, known := s.nextEdge(now); known {
		if edge.Add(-s.Window).After(s.Reading.Answered) {
			return max(2-out, 0), now.Add(horizon) // a new window should have begun
		}
		return left, edge
	}
	if left < 1 {
		probe := s.Granted.Add(time.Second)
		if !now.Before(probe) && out == 0 {
			return 1, probe
		}
		return 0, later(probe, now.Add(horizon))
	}
	return left, now.Add(horizon)
}
