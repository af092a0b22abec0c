package budget

import "time"

const (
	// margin keeps the pace a little below what is believed to be the limit, so that jitter does not cross it.
	margin = 0.99
	// firstPace is how many requests a second are sent before anything is known, and doubling how soon that doubles
	// while nothing refuses.
	firstPace = 10
	doubling  = 500 * time.Millisecond
	minPace   = 1e-4
	maxPace   = 1e6
	// firstWindow is what an announced limit is taken to be per, until readings show it. An assumption: LeadGrid's
	// numbers are not published, and a minute is what most services mean.
	firstWindow = time.Minute
	// While the window is unknown, mostFree requests are spent at once, in a few times freely, unless that leaves less than the
	// reserve: a high limit may be an hour's.
	mostFree = 100
	freely   = 250 * time.Millisecond
	// settled is after how long all replicas have told what they saw.
	settled = 1500 * time.Millisecond
	// recovery is how long, after a refusal, the pace takes to come back to what was measured, hold how long it then stays.
	recovery = 10 * time.Second
	hold     = 2 * time.Minute
	// distrust is how long announced limits are ignored after they were contradicted three times in a row.
	distrust = 10 * time.Minute
	// odd is how far suspicion must have grown for the limit to be taken for a bucket's.
	odd = 8
	// forever is longer than any window.
	forever = 1000 * time.Hour
)

// Learned is the part of the state that LeadGrid's answers have taught.
type Learned struct {
	BlockedUntil time.Time `json:"blocked_until,omitzero"`
	BlockedWhy   string    `json:"blocked_why,omitempty"`
	RefusedAt    time.Time `json:"refused_at,omitzero"`
	Refusals     int64     `json:"refusals,omitempty"`

	// Limit is the announced limit, 0 if none is.
	Limit int `json:"limit,omitempty"`
	// Window is for how long a request counts against the limit, as far as is known. It lies between Shortest and
	// Longest; Returned says that requests were seen to stop counting at all, and until then it is an assumption.
	Window   time.Duration `json:"window,omitempty"`
	Shortest time.Duration `json:"shortest,omitempty"`
	Longest  time.Duration `json:"longest,omitempty"`
	Returned bool          `json:"returned,omitempty"`
	Doubted  time.Time     `json:"doubted,omitzero"`
	// Risen is when the announced remaining was last seen to rise by much: requests had stopped counting.
	Risen time.Time `json:"risen,omitzero"`
	// Refill is how many requests a second a bucket takes, where requests do not count for a certain time. Odd counts
	// what spoke for that.
	Refill float64 `json:"refill,omitempty"`
	Odd    int     `json:"odd,omitempty"`
	// Contradicted counts refusals that the announced remaining did not foretell; Distrusted is until when it is ignored.
	Contradicted int       `json:"contradicted,omitempty"`
	Distrusted   time.Time `json:"distrusted,omitzero"`

	// Ceiling is the pace that the last refusal showed to be the limit.
	Ceiling float64 `json:"ceiling,omitempty"`

	// History is when requests were accepted, as far as a window reaches.
	History History `json:"history,omitzero"`
	// Reading is the newest announced remaining; Change an older one and the next, kept until all replicas have told
	// what they sent before.
	Reading Reading `json:"reading,omitzero"`
	Change  Change  `json:"change,omitzero"`
	// Stretch measures some accepted requests, Cycle those since the last refusal.
	Stretch Measure `json:"stretch,omitzero"`
	Cycle   Measure `json:"cycle,omitzero"`
	// Grown is for how long requests have waited for the pace since the last refusal, Pressed when one last did.
	Grown   time.Duration `json:"grown,omitempty"`
	Pressed time.Time     `json:"pressed,omitzero"`
}

// Reading is an announced remaining, and the request whose answer told it: LeadGrid counted it between the two times.
type Reading struct {
	Remaining int       `json:"remaining"`
	Sent      time.Time `json:"sent"`
	Answered  time.Time `json:"answered"`
}

// Change is one reading and the next.
type Change struct {
	From Reading `json:"from"`
	To   Reading `json:"to"`
}

// Measure counts accepted requests since a moment, at which so many remained.
type Measure struct {
	Start     time.Time `json:"start,omitzero"`
	Accepted  int       `json:"accepted,omitempty"`
	Remaining int       `json:"remaining,omitempty"`
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
	foretold := s.Limit == 0 || s.Reading.Remaining-s.out() < max(3, s.Limit/10) || o.Sent.Sub(s.Reading.Answered) > settled
	accepted := o.Status != 429
	if o.Limit > 0 {
		s.announced(min(o.Limit, 1e9))
	}
	if accepted {
		s.Cycle.Accepted++
		s.Stretch.Accepted++
		if s.Limit > 0 {
			s.History.add(o.Sent.Add(o.Answered.Sub(o.Sent)/2), s.Window)
		}
	}
	if 0 <= o.Remaining && o.Remaining <= s.Limit && o.Limit > 0 {
		s.read(o)
	}
	if accepted {
		s.judge(o.Answered)
	} else {
		s.refused(o, foretold)
	}
}

// observeAll learns from answers whose times are by a clock that is behind by ahead.
func (s *State) observeAll(seen []Seen, ahead time.Duration) {
	for _, o := range seen {
		o.Sent, o.Answered = o.Sent.Add(ahead).Round(time.Microsecond), o.Answered.Add(ahead).Round(time.Microsecond)
		s.Observe(o)
	}
}

// announced takes in a limit.
func (s *State) announced(limit int) {
	if s.Limit == limit {
		return
	}
	if s.Limit == 0 {
		s.Window, s.Longest = firstWindow, forever
		s.All, s.Own = Pot{}, [shares]Pot{} // full
	} else {
		s.Refill *= float64(limit) / float64(s.Limit)
	}
	s.Limit, s.Change, s.Stretch = limit, Change{}, Measure{}
	s.Reading.Remaining = min(s.Reading.Remaining, s.Limit)
}

// read takes in an announced remaining, if it is newer than the last in LeadGrid's own order. Of two requests that were
// under way together either may have been counted first: the lower figure is kept.
func (s *State) read(o Seen) {
	r := Reading{Remaining: o.Remaining, Sent: o.Sent, Answered: o.Answered}
	last := s.Reading
	switch {
	case last.Sent.IsZero():
	case !r.Sent.Before(last.Answered):
		if s.Change.To.Sent.IsZero() || r.Remaining-last.Remaining > max(0, s.Change.To.Remaining-s.Change.From.Remaining) {
			s.Change = Change{From: last, To: r}
		}
	case !last.Sent.Before(r.Answered) || r.Remaining >= last.Remaining:
		return
	}
	if s.risen(r.Remaining) {
		s.Risen = r.Answered
	}
	s.Reading = r
	if s.Stretch.Start.IsZero() {
		s.Stretch = Measure{Start: r.Answered, Remaining: r.Remaining}
	}
	if c := s.Change; !c.To.Sent.IsZero() && o.Answered.Sub(c.To.Answered) > settled {
		s.Change = Change{}
		s.compare(c)
	}
}

// risen says whether so many remaining are many more than at the last reading.
func (s *State) risen(remaining int) bool { return remaining-s.Reading.Remaining > s.Limit/8 }

// compare learns for how long a request counts from two readings. What counts against the limit at some time is the
// latest requests, as many as are missing from it: the window reaches back at least to the oldest of them and, if at the
// next reading fewer counted, then it did not reach back to that time from there. This holds for windows that are fixed
// and for those that slide; for a bucket it leads to the pace at which it stays just above empty.
func (s *State) compare(c Change) {
	missing := s.Limit - c.From.Remaining
	oldest, _, ok := s.History.last(c.From.Answered, missing)
	if !ok {
		return // others use the same key, more than we do
	}
	shortest := max(0, c.From.Sent.Sub(s.History.at(oldest+1)))
	if c.To.Remaining < c.From.Remaining {
		s.atLeast(shortest)
		return
	}
	s.Returned = true
	longest := forever
	if before, _, ok := s.History.last(c.From.Sent.Add(-s.History.Slot), missing+1); ok {
		longest = c.To.Answered.Sub(s.History.at(before))
	}
	gain := c.To.Remaining - c.From.Remaining
	most := missing >= max(3, s.Limit/10) && 2*gain > missing
	if s.bucket() && float64(gain) < 3*s.Refill*c.To.Answered.Sub(c.From.Sent).Seconds() {
		most = false
	}
	s.doubt(c.To.Answered)
	agrees := shortest <= s.Longest && s.Shortest <= longest
	if agrees {
		shortest, longest = max(s.Shortest, shortest), min(s.Longest, longest)
	}
	s.Shortest, s.Longest = shortest, longest
	switch {
	case most:
		s.Odd = 0
	case !agrees:
		s.suspect(maxPace)
	case !s.bucket():
		s.Odd = max(s.Odd-1, 0)
	}
	switch known := s.known(); {
	case most && s.Longest <= 2*s.Shortest:
		s.Window = s.likeliest()
	case known > s.Window, most && known < s.Window:
		s.Window = known
	}
}

// doubt widens what is believed of the window a little with every window, so that no mistake stays for good.
func (s *State) doubt(now time.Time) {
	since := now.Sub(s.Doubted)
	s.Doubted = now
	if s.Longest == forever || since > 10*s.Window {
		return
	}
	s.Shortest -= since / 500
	s.Longest += since / 500
}

// atLeast notes that a request counts for at least that long.
func (s *State) atLeast(d time.Duration) {
	if d <= s.Window+s.Window/50 {
		return
	}
	s.Window, s.Shortest, s.Longest = d, d, forever
	if !s.Returned {
		s.Window = roundUp(d)
	}
}

// exact says whether the window's length is known well.
func (s *State) exact() bool { return s.Longest-s.Shortest <= s.Longest/4 }

// likeliest is where between its bounds the window is: the lower one comes closer, for it is met more often.
func (s *State) likeliest() time.Duration { return s.Shortest + (s.Longest-s.Shortest)/4 }

// known is the window as far as readings have shown it.
func (s *State) known() time.Duration {
	if s.exact() {
		return s.likeliest()
	}
	return min(max(s.Window, s.Shortest), s.Longest)
}

// judge looks at a stretch of accepted requests. If meanwhile as many stopped counting as were sent, though more were
// waiting, then the limit allows more.
func (s *State) judge(now time.Time) {
	m := s.Stretch
	if took := now.Sub(m.Start); m.Start.IsZero() || m.Accepted < 5 || s.bucket() && m.Accepted < s.Limit/10 && took < firstWindow {
		return
	}
	back := s.Reading.Remaining - m.Remaining + m.Accepted
	rate := float64(max(back, 0)) / now.Sub(m.Start).Seconds()
	pressed := !s.Pressed.Before(m.Start)
	switch missing := s.Limit - max(s.Reading.Remaining, m.Remaining); {
	case !s.bucket():
	case missing >= 3:
		s.Refill += (min(max(rate, s.Refill/2), 2*s.Refill) - s.Refill) / 2
	case pressed:
		s.Refill = min(1.5*s.Refill, maxPace) // a full bucket does not tell how fast it could be filled
	}
	if 5*back >= 4*m.Accepted && pressed {
		s.Window = max(min(s.Window, s.known()), min(s.Window/2, s.Longest), time.Millisecond)
	}
	s.Stretch = Measure{Start: now, Remaining: s.Reading.Remaining}
}

// refused obeys a 429 and learns from it.
func (s *State) refused(o Seen, foretold bool) {
	s.Refusals++
	until := o.Answered.Add(o.RetryAfter)
	news := !o.Sent.Before(s.RefusedAt) && !s.Blocked(o.Sent)
	if until.After(s.BlockedUntil) {
		s.BlockedUntil = until
		s.BlockedWhy = refusalWhy(o.RetryAfter)
	}
	if !news {
		return // sent before this block was known: it tells nothing new
	}
	s.RefusedAt = o.Answered
	s.Ceiling = min(max(s.measured(until), minPace), maxPace)
	if s.Limit > 0 {
		s.tooFast(o)
		if foretold {
			s.Contradicted = 0
		} else if s.Contradicted++; s.Contradicted >= 3 {
			s.Contradicted, s.Distrusted = 0, o.Answered.Add(distrust)
		}
	}
	s.Grown = 0
	s.Cycle, s.Stretch = Measure{Start: until}, Measure{}
}

// tooFast corrects the window after a refusal: it reaches from the oldest request that counts to the end of the block, or
// else the pace is halved.
func (s *State) tooFast(o Seen) {
	before, looked := s.Window, s.unknown()
	if oldest, _, ok := s.History.last(o.Answered, s.Limit); ok || !s.Returned {
		s.atLeast(o.Sent.Add(o.RetryAfter - time.Second).Sub(s.History.at(oldest + 1)))
	}
	if o.RetryAfter < s.Window/16 {
		s.suspect(1 / max(o.RetryAfter, time.Second).Seconds()) // a bucket has one soon
	}
	switch {
	case s.bucket():
		s.Refill /= 2
	case looked: // and found out
	case s.Window >= before+before/2:
	case s.exact():
		s.Longest += s.Longest / 32 // it was a little too early
	default:
		s.Window = 2 * before
	}
}

func refusalWhy(retryAfter time.Duration) string {
	return "LeadGrid refused a request (429) and asked to wait " + retryAfter.String()
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
