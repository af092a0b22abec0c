package budget

import (
	"maps"
	"time"
)

const (
	// horizon is how far ahead tokens are leased at most. It bounds what dies with a lease holder and how long another
	// share waits behind one.
	horizon = 250 * time.Millisecond
	// lapse is after how long the tokens of a replica that says nothing are taken to be lost with it.
	lapse = 10 * time.Second
	// grace is how long after it fell due a token may still be used.
	grace = 2 * time.Second
	// soon is the least time until a replica asks again.
	soon = 5 * time.Millisecond
	// burst is the part of an announced limit that may be saved up while idle and spent at once.
	burst = 0.10
)

// state is everything the replicas know together. It is a pure state machine: every time comes from the caller, on one
// clock (the database's), so that a test can drive it. Fields that seldom change come first, so that an update logs little.
type state struct {
	learned
	// SweepShare is the part that sweeps asked for last: theirs rises when they are overdue. Zero is the usual part.
	SweepShare float64 `json:"sweep_share,omitempty"`
	// Leases says, by replica, how many requests it may have under way or still send.
	Leases map[string]lease `json:"leases,omitempty"`
	// All holds the tokens of all shares together, Own those of each share's guaranteed part.
	All tokenBucket         `json:"all"`
	Own [shares]tokenBucket `json:"own"`
	// Asked is when each share last asked for tokens, noted while windows are short.
	Asked [shares]time.Time `json:"asked,omitzero"`
	// Kept is when the state was last stored where a crash of the server does not reach it.
	Kept time.Time `json:"kept,omitzero"`
	// Granted is when the last token was given.
	Granted time.Time `json:"granted,omitzero"`
	// Used counts the tokens given to each share.
	Used [shares]int64 `json:"used"`
}

// lease is what one replica holds: requests leased and not yet seen answered.
type lease struct {
	Out   int       `json:"n"`
	Until time.Time `json:"until"`
}

// ask is one replica's request for tokens.
type ask struct {
	replica    string
	want       [shares]int // how many more tokens each share could use within the horizon
	out        int         // how many requests are under way or may still be sent with the tokens held
	back       [shares]int // how many tokens are given back unused; out no longer counts them
	sweepShare float64     // the part that sweeps should have; 0 leaves it as it is
}

// grant is what an ask brings.
type grant struct {
	lots  []lot
	until [shares]time.Time // when to ask again, for a share that did not get all it wanted
	why   string
}

// lot is a run of n tokens for one share: the first is due at start, the following ones every later each, and none may be
// used after until.
type lot struct {
	share        Share
	n            int
	start, until time.Time
	every        time.Duration
}

// blocked says whether nothing may be sent now because LeadGrid said so.
func (s *state) blocked(now time.Time) bool { return now.Before(s.BlockedUntil) }

// part returns a share's guaranteed part of the pace.
func (s *state) part(c Share) float64 {
	sweeps := max(s.SweepShare, guaranteed[Sweeps])
	if c == Sweeps {
		return sweeps
	}
	return guaranteed[c] * (1 - sweeps) / (1 - guaranteed[Sweeps])
}

// grant hands out tokens: first what each share is guaranteed, then what the others leave idle.
func (s *state) grant(now time.Time, ask ask) grant {
	s.settle(now, ask)
	var answer grant
	if s.blocked(now) {
		answer.why = s.BlockedWhy
		for c := range answer.until {
			answer.until[c] = s.BlockedUntil
		}
		return answer
	}
	pace := s.pace(now)
	depth := s.depth(pace)
	room, roomAt := s.room(now)
	ahead := s.horizon()
	s.All.fill(now, pace, depth)
	for c := range shares {
		s.Own[c].fill(now, pace*s.part(c), max(1, depth*s.part(c)))
		if s.short() && ask.want[c] > 0 {
			s.Asked[c] = now
		}
	}
	given := 0
	for c := range shares {
		if ask.want[c] <= 0 {
			continue
		}
		own, rate := &s.Own[c], pace*s.part(c)
		lots := own.take(now, min(ask.want[c], room-given), rate, ahead)
		n := tokens(lots)
		s.All.Level -= float64(n)
		lent := s.All.take(now, min(ask.want[c], room-given-s.kept(c, now))-n, pace, ahead)
		n += tokens(lent)
		for _, lot := range append(lots, lent...) {
			lot.share = c
			answer.lots = append(answer.lots, lot)
		}
		given += n
		s.Used[c] += int64(n)
		switch {
		case n == ask.want[c]:
		case given >= room:
			answer.until[c], answer.why = roomAt, "LeadGrid's limit is used up for now"
		default:
			wait := own.due(1, rate)
			if s.kept(c, now) == 0 {
				wait = min(wait, s.All.due(1, pace))
			}
			if s.Window == 0 && s.Limit > 0 {
				wait = min(wait, max(s.gone(now)/16, horizon)) // by then it may be known
			}
			answer.until[c], answer.why = now.Add(wait), "LeadGrid's limit allows no more at once"
			s.waits(now)
		}
		if n < ask.want[c] {
			answer.until[c] = later(answer.until[c], now.Add(soon))
		}
	}
	if given > 0 {
		s.Leases[ask.replica] = lease{Out: ask.out + given, Until: now.Add(lapse)}
		s.Granted = now
	}
	return answer
}

// kept is how many tokens may not be lent to a share, because others that have asked lately may still want them: a short
// window is spent at once, so they would come too late for the rest.
func (s *state) kept(lent Share, now time.Time) (n int) {
	if !s.short() {
		return 0
	}
	for c := range shares {
		if c != lent && now.Sub(s.Asked[c]) < 2*s.Window {
			n += max(0, int(s.Own[c].Level))
		}
	}
	return n
}

// settle notes what the asking replica says of itself, and forgets replicas that have been silent for too long.
func (s *state) settle(now time.Time, ask ask) {
	if s.Leases == nil {
		s.Leases = map[string]lease{}
	}
	maps.DeleteFunc(s.Leases, func(_ string, l lease) bool { return !now.Before(l.Until) })
	if ask.sweepShare > 0 {
		s.SweepShare = min(ask.sweepShare, 0.9)
	}
	for c, n := range ask.back {
		s.Own[c].Level += float64(n)
		s.All.Level += float64(n)
		s.Used[c] -= int64(n)
	}
	delete(s.Leases, ask.replica)
	if ask.out > 0 {
		s.Leases[ask.replica] = lease{Out: ask.out, Until: now.Add(lapse)}
	}
}

// out counts the requests that LeadGrid may get or have got without having counted them in its last answer.
func (s *state) out() int {
	n := 0
	for _, lease := range s.Leases {
		n += lease.Out
	}
	return n
}

func tokens(lots []lot) (n int) {
	for _, lot := range lots {
		n += lot.n
	}
	return n
}

// tokenBucket is a token bucket: tokens fall due at a rate and are saved up to a depth. It may be in debt.
type tokenBucket struct {
	Level float64   `json:"level"`
	At    time.Time `json:"at"`
}

// fill adds what has fallen due since the last time.
func (p *tokenBucket) fill(now time.Time, rate, depth float64) {
	switch {
	case p.At.IsZero():
		p.Level, p.At = depth, now
	case now.After(p.At):
		p.Level += rate * now.Sub(p.At).Seconds()
		p.At = now
	}
	p.Level = min(max(p.Level, -depth), depth)
}

// due says in how long the i-th next token falls due.
func (p *tokenBucket) due(i int, rate float64) time.Duration {
	return seconds(max(0, float64(i)-p.Level) / rate)
}

// take leases up to n tokens that fall due within the horizon: at most one lot at once and one spread over time.
func (p *tokenBucket) take(now time.Time, n int, rate float64, horizon time.Duration) []lot {
	const rounding = 1e-6
	n = min(n, int(p.Level+rate*horizon.Seconds()+rounding))
	if n <= 0 {
		return nil
	}
	var lots []lot
	ready := min(n, int(p.Level+rounding))
	if ready > 0 {
		lots = append(lots, lot{n: ready, start: now, until: now.Add(grace)})
	} else {
		ready = 0
	}
	if rest := n - ready; rest > 0 {
		last := now.Add(p.due(n, rate))
		lots = append(lots, lot{n: rest, start: now.Add(p.due(ready+1, rate)), every: seconds(1 / rate), until: last.Add(grace)})
	}
	p.Level -= float64(n)
	return lots
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
