package budget

import (
	"cmp"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

const (
	// margin keeps the pace a little below what is believed to be the limit, so that jitter does not cross it.
	margin = 0.99
	// firstPace is how many requests a second are sent before anything is known, and doubling how soon that doubles
	// while nothing refuses.
	firstPace = 10
	doubling  = 500 * time.Millisecond
	minPace   = 1e-4
	maxPace   = 1e6
	// firstWindow is how long a window is allowed for, at least, while none is known. An assumption: LeadGrid's numbers are
	// not published, and a minute is what most services mean.
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
	// mostDoubts is how many refusals a window does not have to explain before it is given up.
	mostDoubts = 2
	// forever is longer than any window.
	forever = 1000 * time.Hour
)

// learned is the part of the state that LeadGrid's answers have taught. The names in JSON are stored: they never change.
type learned struct {
	BlockedUntil time.Time `json:"blocked_until,omitzero"`
	BlockedWhy   string    `json:"blocked_why,omitempty"`
	RefusedAt    time.Time `json:"refused_at,omitzero"`
	Refusals     int64     `json:"refusals,omitempty"`

	// Limit is the announced limit, 0 if none is.
	Limit int `json:"limit,omitempty"`
	// Window is for how long a request counts against the limit, 0 while nobody knows. It lies between Shortest and
	// Longest, as far as readings have shown; Proved is when Shortest last grew. Doubts counts the refusals that the
	// window does not explain.
	Window   time.Duration `json:"window,omitempty"`
	Shortest time.Duration `json:"shortest,omitempty"`
	Longest  time.Duration `json:"longest,omitempty"`
	Proved   time.Time     `json:"proved,omitzero"`
	Doubts   int           `json:"doubts,omitempty"`
	// Risen is when the announced remaining was last seen to rise much, because requests no longer counted; before that,
	// when the first request was sent.
	Risen time.Time `json:"risen,omitzero"`
	// Contradicted counts refusals although enough was said to remain; until Distrusted, what is announced is ignored.
	Contradicted int       `json:"contradicted,omitempty"`
	Distrusted   time.Time `json:"distrusted,omitzero"`

	// Ceiling is the limit as the last refusal showed it, in requests a second.
	Ceiling float64 `json:"ceiling,omitempty"`

	// History is when requests were accepted, as far as a window reaches.
	History history `json:"history,omitzero"`
	// Reading is the newest announced remaining; Change an older one and the next, kept until all replicas have told
	// what they sent before.
	Reading reading `json:"reading,omitzero"`
	Change  change  `json:"change,omitzero"`
	// Cycle counts the accepted requests since the last refusal. Spare is the least that remained for a while.
	Cycle cycle `json:"cycle,omitzero"`
	Spare spare `json:"spare,omitzero"`
	// Waited is for how long requests have waited for the pace since the last refusal, WaitedAt when one last did.
	Waited   time.Duration `json:"grown,omitempty"`
	WaitedAt time.Time     `json:"pressed,omitzero"`
}

// reading is an announced remaining, and the request whose answer told it: LeadGrid counted it between the two times.
type reading struct {
	Remaining int       `json:"remaining"`
	Sent      time.Time `json:"sent"`
	Answered  time.Time `json:"answered"`
}

// latest is the latest time under which the history may hold a request that LeadGrid had counted by then: its answer may
// have taken as long.
func (r reading) latest() time.Time { return r.Answered.Add(r.Answered.Sub(r.Sent)) }

// change is one reading and the next.
type change struct {
	From reading `json:"from"`
	To   reading `json:"to"`
}

// cycle counts the requests accepted since its start, when so many remained.
type cycle struct {
	Start     time.Time `json:"start,omitzero"`
	Accepted  int       `json:"accepted,omitempty"`
	Remaining int       `json:"remaining,omitempty"`
}

// spare is the least that remained since a time, by which requests had waited for so long in all.
type spare struct {
	Since  time.Time     `json:"since,omitzero"`
	Least  int           `json:"least,omitempty"`
	Waited time.Duration `json:"grown,omitempty"`
}

// observe learns from one answer. Answers may come in any order.
func (s *state) observe(o leadgridapi.Observation) {
	if o.Status == 0 {
		return
	}
	if s.Cycle.Start.IsZero() {
		s.Cycle.Start, s.Risen, s.Proved = o.Sent, o.Sent, o.Sent
	}
	foretold := s.Limit == 0 || s.Reading.Remaining-s.out() < max(3, s.Limit/10) || o.Sent.Sub(s.Reading.Answered) > settled
	accepted := o.Status != 429
	if o.Limit != nil && *o.Limit > 0 {
		s.announced(min(*o.Limit, 1e9))
	}
	if accepted {
		s.Cycle.Accepted++
		if s.Limit > 0 {
			s.History.add(o.Sent.Add(o.Answered.Sub(o.Sent)/2), cmp.Or(s.Window, max(s.gone(o.Answered), s.History.Slot*slotsPerWindow)))
		}
	}
	if o.Limit != nil && *o.Limit > 0 && o.Remaining != nil && 0 <= *o.Remaining && *o.Remaining <= s.Limit {
		s.read(o)
	}
	if !accepted {
		s.refused(o, foretold)
	}
}

// observeAll learns from answers whose times are by a clock that is behind by ahead.
func (s *state) observeAll(seen []leadgridapi.Observation, ahead time.Duration) {
	for _, o := range seen {
		o.Sent, o.Answered = o.Sent.Add(ahead).Round(time.Microsecond), o.Answered.Add(ahead).Round(time.Microsecond)
		s.observe(o)
	}
}

// announced takes in a limit.
func (s *state) announced(limit int) {
	if s.Limit == limit {
		return
	}
	if s.Limit == 0 {
		s.Longest, s.Cycle.Remaining = forever, limit
		s.All, s.Own = tokenBucket{}, [shares]tokenBucket{} // full
	}
	s.Limit, s.Change = limit, change{}
	s.Reading.Remaining = min(s.Reading.Remaining, s.Limit)
}

// read takes in an announced remaining, if it is newer than the last in LeadGrid's own order. Of two requests that were
// under way together either may have been counted first: the lower figure is kept.
func (s *state) read(o leadgridapi.Observation) {
	r := reading{Remaining: *o.Remaining, Sent: o.Sent, Answered: o.Answered}
	last := s.Reading
	switch {
	case last.Sent.IsZero():
	case !r.Sent.Before(last.Answered):
		if o.Status != 429 && (s.Change.To.Sent.IsZero() || r.Remaining-last.Remaining > max(0, s.Change.To.Remaining-s.Change.From.Remaining)) {
			s.Change = change{From: last, To: r}
		}
	case !last.Sent.Before(r.Answered) || r.Remaining >= last.Remaining:
		return
	}
	if s.risen(r.Remaining) {
		s.Risen = r.Answered
	}
	s.Reading = r
	s.spare()
	if c := s.Change; !c.To.Sent.IsZero() && o.Answered.Sub(c.To.Answered) > settled {
		s.Change = change{}
		s.compare(c)
	}
}

// risen says whether so many remaining are many more than at the last reading.
func (s *state) risen(remaining int) bool { return remaining-s.Reading.Remaining > s.Limit/8 }

// spare shortens the window if requests waited during all of one while much was left: it must be shorter than believed.
func (s *state) spare() {
	m, now := &s.Spare, s.Reading.Answered
	m.Least = min(m.Least, s.Reading.Remaining)
	over := now.Sub(m.Since)
	if s.Window > 0 && over < s.Window {
		return
	}
	if s.Window > 0 && over < 2*s.Window && m.Least > s.Limit/8 && s.Waited-m.Waited > over/2 {
		s.Longest = s.Window - s.Window/8
		s.Shortest = min(s.Shortest, s.Longest)
		s.setWindow()
	}
	*m = spare{Since: now, Least: s.Reading.Remaining, Waited: s.Waited}
}

// compare learns from two readings for how long a request counts. What counts at any time is the latest requests, as many
// as are missing from the limit. So the window reaches back at least to the oldest of them; and if fewer count at the next
// reading, it no longer reached back to the one before that. This holds for fixed windows and for sliding ones. For a
// bucket, which is refilled steadily, the two bounds soon contradict each other.
func (s *state) compare(c change) {
	missing, gain := s.Limit-c.From.Remaining, c.To.Remaining-c.From.Remaining
	oldest, _, ok := s.History.last(c.From.latest(), missing)
	if !ok {
		return // others use the same key, more than we do
	}
	shortest := max(0, c.From.Sent.Sub(s.History.at(oldest+1)))
	if gain < 0 {
		s.atLeast(shortest, c.To.Answered)
		return
	}
	longest := forever
	if before, _, ok := s.History.last(c.From.Sent.Add(-s.History.Slot), missing+1); ok {
		longest = c.To.Answered.Sub(s.History.at(before))
	}
	half, most := 2*missing >= s.Limit, missing >= max(3, s.Limit/10) && 2*gain > missing
	switch {
	case shortest <= s.Longest && s.Shortest <= longest:
		s.Shortest, s.Longest = max(s.Shortest, shortest), min(s.Longest, longest)
	case s.Window == 0:
		s.Doubts = mostDoubts + 1 // a bucket
		return
	case half || most:
		s.Shortest, s.Longest = shortest, longest // it has changed
	default:
		return
	}
	// The lower bound alone is believed when it has long stopped growing.
	sure := s.Longest-s.Shortest < s.Shortest/16 || c.To.Answered.Sub(s.Proved) > 2*usual(s.Shortest)
	if s.Window > 0 || half && (most && s.jump(c) || sure && !s.bucket()) {
		s.setWindow()
	}
}

// jump says whether what came back came much faster than it does on average: a window gives all at once, a bucket gives
// steadily.
func (s *state) jump(c change) bool {
	missing, gain := s.Limit-c.From.Remaining, c.To.Remaining-c.From.Remaining
	looked := later(c.From.Sent, s.BlockedUntil.Add(-time.Second)) // nothing came back during a block
	quiet := c.To.Answered.Sub(looked)
	if s.Doubts == 0 && quiet <= usual(s.Shortest) && 4*gain >= 3*missing {
		return true // if this is a bucket, it fills up within what will be taken for the window
	}
	return s.Reading.Answered.Sub(s.Cycle.Start) >= s.Shortest && float64(gain) > 2*s.rate()*quiet.Seconds()
}

// bucket says whether no window explains what was seen. Then what LeadGrid says is left is all there is to go by.
func (s *state) bucket() bool { return s.Window == 0 && s.Doubts > mostDoubts }

// rate is how many requests a second have stopped counting since the last refusal.
func (s *state) rate() float64 {
	back := s.Reading.Remaining - s.Cycle.Remaining + s.Cycle.Accepted
	return float64(max(back, 0)) / max(s.Reading.Answered.Sub(s.Cycle.Start), time.Second).Seconds()
}

// atLeast notes that a request counts for at least d.
func (s *state) atLeast(d time.Duration, now time.Time) {
	if d <= max(s.Shortest, s.Window+s.Window/10) {
		return
	}
	s.Shortest, s.Longest, s.Proved = d, forever, now
	if s.Window > 0 {
		s.setWindow()
	}
}

// setWindow settles on a window between the bounds: the usual one believed in so far, or else the shortest usual one, or
// else the likeliest. If that is too short, a refusal says so, which costs no time: by then all that LeadGrid gives is used.
func (s *state) setWindow() {
	w := usual(s.Shortest)
	if s.Longest == forever {
		w = usual(s.Shortest - s.Shortest/10) // others who use the same key make it look longer
	}
	switch {
	case w > s.Longest:
		// The lower bound comes closer, for it is met more often. Retry-After counts in seconds: no window is shorter.
		s.Window = max(s.Shortest+(s.Longest-s.Shortest)/4, time.Second)
	case s.Window != usual(s.Window) || s.Window < w || s.Window > s.Longest:
		s.Window = w
	}
}

// refused obeys a 429 and learns from it.
func (s *state) refused(o leadgridapi.Observation, foretold bool) {
	s.Refusals++
	until := o.Answered.Add(o.RetryAfter)
	news := !o.Sent.Before(s.RefusedAt) && !s.blocked(o.Sent)
	if until.After(s.BlockedUntil) {
		s.BlockedUntil = until
		s.BlockedWhy = refusalWhy(o.RetryAfter)
	}
	if !news {
		return // sent before this block was known: it tells nothing new
	}
	if s.Window > 0 && o.Answered.Sub(s.RefusedAt) > distrust {
		s.Doubts = 0
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
	s.Waited = 0
	s.Cycle = cycle{Start: until}
}

// tooFast corrects the window after a refusal: it must reach from the oldest request that still counts to the end of the
// block. If that is no longer than believed, the window does not explain the refusal, and doubts grow.
func (s *state) tooFast(o leadgridapi.Observation) {
	before, known := s.Window, s.Window > 0
	if oldest, _, ok := s.History.last(o.Answered, max(s.Limit-s.out(), 1)); ok || !known {
		s.atLeast(o.Sent.Add(o.RetryAfter-time.Second).Sub(s.History.at(oldest+1)), o.Answered) // Retry-After was rounded up
	}
	switch {
	case s.bucket():
		if s.Doubts++; s.Doubts > 2*mostDoubts {
			s.Doubts = 0 // no bucket either, it seems: start again
		}
	case !known:
		if o.RetryAfter > usual(s.Shortest)/16 { // a bucket would have one sooner
			s.setWindow()
		}
	case s.Window > before:
	default:
		most, _, ok := s.History.last(o.Answered, max(s.Limit*9/10-s.out(), 1))
		if !ok || o.Sent.Sub(s.History.at(most)) > before+before/8 {
			return // others use the same key
		}
		if s.Doubts++; s.Doubts > mostDoubts {
			s.Window = 0
		}
	}
}

func refusalWhy(retryAfter time.Duration) string {
	return "LeadGrid refused a request (429) and asked to wait " + retryAfter.String()
}

// usual returns the shortest of the windows that services use which is not shorter than d.
func usual(d time.Duration) time.Duration {
	const s, m = time.Second, time.Minute
	for _, w := range []time.Duration{s, 2 * s, 5 * s, 10 * s, 15 * s, 20 * s, 30 * s, m, 2 * m, 5 * m, 10 * m, 15 * m, 30 * m, 60 * m} {
		if d <= w {
			return w
		}
	}
	return max(d, 24*time.Hour)
}
