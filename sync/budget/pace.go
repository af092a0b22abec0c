package budget

import (
	"math"
	"time"
)

// waits notes that a request waits for the pace, which grows only while some do.
func (s *state) waits(now time.Time) {
	if gap := now.Sub(s.WaitedAt); gap > 0 {
		s.Waited += min(gap, time.Second)
		s.WaitedAt = now
	}
}

// pace is how many requests a second may be sent now.
func (s *state) pace(now time.Time) float64 {
	pace := s.guessedPace()
	if s.trusted(now) {
		pace = s.announcedPace(now)
	}
	return min(max(pace, minPace), maxPace)
}

// trusted says whether announced limits are followed.
func (s *state) trusted(now time.Time) bool {
	return s.Limit > 0 && !s.Reading.Sent.IsZero() && !now.Before(s.Distrusted)
}

// announcedPace follows the headers.
func (s *state) announcedPace(now time.Time) float64 {
	if s.Window == 0 {
		return s.unknownPace(now)
	}
	pace := margin * float64(s.Limit) / s.Window.Seconds()
	left, more := s.left(now)
	if wait := more.Sub(now).Seconds(); !s.short() && wait > 0 && 2*float64(left) < pace*wait {
		pace = max(float64(left), 1) / wait // a burst went out, or others use the same key: make the rest last
	}
	return pace
}

// short says whether the window is so short that nobody minds waiting for its end. Then all that is left is spent at once:
// at a steady pace each request waits for its turn, and in a short window these waits add up.
func (s *state) short() bool { return 0 < s.Window && s.Window <= 2*time.Second }

// gone is for how long requests have not been seen to stop counting.
func (s *state) gone(now time.Time) time.Duration { return now.Sub(s.Risen) }

// unknownPace is the pace while nobody knows for how long a request counts.
//
// What LeadGrid says is left is spent at once, or as fast as a window of firstWindow allows, down to a reserve: to save it
// would bring nothing back sooner. The reserve is for looks, requests whose answers tell whether earlier ones have stopped
// counting. The time between two looks is a fourth to an eighth of the time gone by, so that the reserve lasts. Of a bucket,
// which fills up steadily, just what came back is spent.
func (s *state) unknownPace(now time.Time) float64 {
	left, limit := float64(s.Reading.Remaining), float64(s.Limit)
	gone, window := max(s.gone(now), freely).Seconds(), max(usual(s.Shortest), firstWindow).Seconds()
	looks := left / math.Log(max(window/gone, 1.5))
	pace := max(min(max(looks, 4), 8)/gone, left/2/window)
	reserve := limit / 4
	if s.bucket() {
		reserve = max(2, limit/32)
		pace = max(pace, 0.9*s.rate())
	}
	if left > reserve {
		pace = max(pace, limit/window, (left-max(reserve, limit-mostFree))/freely.Seconds())
	}
	return pace
}

// guessedPace goes by refusals alone. It doubles until the first one. After a refusal it is half of what was measured, soon
// nearly all of that, and after a while it grows beyond, slowly at first.
func (s *state) guessedPace() float64 {
	if s.Ceiling == 0 {
		return firstPace * math.Exp2(min(s.Waited.Seconds()/doubling.Seconds(), 64))
	}
	const most = 0.97
	pace := most
	switch waited := s.Waited; {
	case waited < recovery:
		pace = 0.5 + (most-0.5)*waited.Seconds()/recovery.Seconds()
	case waited > recovery+hold:
		x := (waited - recovery - hold).Seconds() / hold.Seconds()
		pace = most + x*x*x
	}
	return s.Ceiling * pace
}

// horizon is how far ahead tokens are leased now: a small part of a window.
func (s *state) horizon() time.Duration {
	if s.Window == 0 {
		return horizon
	}
	return min(max(s.Window/64, 20*time.Millisecond), horizon)
}

// measured is the limit, in requests a second, as a refusal shows it.
func (s *state) measured(until time.Time) float64 {
	if s.trusted(s.RefusedAt) {
		return s.announcedPace(s.RefusedAt) / 2
	}
	if s.Ceiling > 0 && s.Waited > recovery+hold/2 {
		return s.guessedPace() // it has changed so slowly that the refusal is its own doing
	}
	took := until.Sub(s.Cycle.Start)
	if took >= 2*time.Second && s.Cycle.Accepted > 0 {
		return float64(s.Cycle.Accepted) / took.Seconds()
	}
	return s.guessedPace() / 2
}

// depth is how many tokens may be saved up and spent at once.
func (s *state) depth(pace float64) float64 {
	if s.Limit > 0 {
		depth := burst * float64(s.Limit)
		switch {
		case s.Window == 0:
			depth = min(depth, pace*horizon.Seconds())
		case s.short():
			depth = float64(s.Limit)
		}
		return max(1, depth)
	}
	return max(1, pace/10)
}

// left is how many requests LeadGrid would take now, beyond those under way, and when it will take more.
func (s *state) left(now time.Time) (n int, more time.Time) {
	out := s.out()
	if s.Window == 0 {
		return s.Reading.Remaining - out, now
	}
	missing := s.Limit - s.Reading.Remaining
	window := s.Window + s.late()
	back := s.History.before(s.Reading.latest(), missing, now.Add(-window))
	// Only a few at once on the strength of the history alone: the next reading tells.
	few := 2 + int(float64(s.Limit)/window.Seconds()*s.horizon().Seconds())
	n = min(s.Reading.Remaining+min(back, few), s.Limit) - out
	if slot, _, ok := s.History.last(s.Reading.latest(), missing-back); ok {
		more = s.History.at(slot + 1).Add(window)
	} else {
		more = s.Reading.Answered.Add(window)
	}
	return n, later(more, now)
}

// late is how much longer than the window a request is taken to count, to be safe: nobody knows when between its sending
// and its answer LeadGrid counted it.
func (s *state) late() time.Duration {
	const jitter = 20 * time.Millisecond
	late := jitter + s.Window/128 + s.Window/64*time.Duration(min(s.Doubts, mostDoubts))
	late = max(late, s.Reading.Answered.Sub(s.Reading.Sent)/2)
	if s.Window != usual(s.Window) && s.Longest < forever {
		late = max(late, (s.Longest-s.Window)/2)
	}
	return min(late, s.Window/4)
}

// room is how many tokens may be given, and when there may be more if there are none.
func (s *state) room(now time.Time) (int, time.Time) {
	if !s.trusted(now) {
		return math.MaxInt32, now
	}
	n, more := s.left(now)
	if n >= 1 {
		return n, now
	}
	out := s.out()
	switch {
	case s.Window == 0 && out > 0:
		return 0, now.Add(s.horizon() / 2) // what is under way may show that there is more
	case s.Window == 0:
		look := s.Reading.Answered.Add(max(s.gone(s.Reading.Answered)/4, s.horizon()))
		if s.bucket() {
			look = s.Reading.Answered.Add(max(min(seconds(3/max(s.rate(), minPace)), usual(s.Shortest)/8), s.horizon()))
		}
		if now.Before(look) {
			return 0, look
		}
		return 1, now // and if it is refused, that tells for how long
	case s.BlockedUntil.After(s.Reading.Answered):
		return max(min(2, s.Limit)-out, 0), now.Add(s.horizon()) // the block is over: go and see
	case out == 0 && now.Sub(s.Reading.Answered) >= max(time.Second, s.Window/8) && !s.own():
		return 1, now // others use the key: nobody knows when theirs stop counting
	case !s.own():
		return 0, earlier(more, s.Reading.Answered.Add(max(time.Second, s.Window/8)))
	}
	return 0, later(more, now.Add(s.horizon()/4))
}

// own says whether all requests that count are our own.
func (s *state) own() bool {
	_, _, ok := s.History.last(s.Reading.Answered, s.Limit-s.Reading.Remaining)
	return ok
}
