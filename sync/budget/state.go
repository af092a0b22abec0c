package budget

import (
	"maps"
	"time"
)

// Share names who asks for a request: each has a guaranteed part of the budget.
type Share int

// The shares. What one leaves unused is lent to whoever asks.
const (
	Events Share = iota
	WriteBack
	Sweeps
	shares
)

// String returns the share's name as metrics and errors show it.
func (s Share) String() string {
	return [...]string{"events", "write_back", "sweeps"}[s]
}

// guaranteed is each share's part while every share has work.
var guaranteed = [shares]float64{Events: 0.60, WriteBack: 0.30, Sweeps: 0.10}

const (
	// horizon is how far ahead tokens are leased at most. It bounds what dies with a lease holder and how long another
	// share waits behind one.
	horizon = 250 * time.Millisecond
	// lapse is when tokens that nobody accounted for are held to be lost with their holder.
	lapse = 10 * time.Second
	// grace is how long after it fell due a token may still be used.
	grace = 2 * time.Second
	// soon is how long a replica waits at least before it asks again.
	soon = 5 * time.Millisecond
	// burst is the part of an announced limit that may be saved up while idle and spent at once.
	burst = 0.10
)

// State is everything the replicas know together. It is a pure state machine: every time comes from the caller, on one
// clock (the database's), so that all of it can be driven by a test. Fields that seldom change come first.
type State struct {
	Learned
	// SweepShare is the part that sweeps asked for last: theirs rises when they are overdue. Zero is the usual part.
	SweepShare float64 `json:"sweep_share,omitempty"`
	// Leases says how many requests each replica may have under way or still to send.
	Leases map[string]Lease `json:"leases,omitempty"`
	// All holds the tokens of all shares together, Own those of each share's guaranteed part.
	All Pot         `json:"all"`
	Own [shares]Pot `json:"own"`
	// Asked is when each share last asked for tokens, noted while windows are short.
	Asked [shares]time.Time `json:"asked,omitzero"`
	// Kept is when the state was last kept over a crash of the server.
	Kept time.Time `json:"kept,omitzero"`
	// Granted is when the last token was given.
	Granted time.Time `json:"granted,omitzero"`
	// Used counts the tokens given to each share.
	Used [shares]int64 `json:"used"`
}

// Lease is what one replica holds: requests leased and not yet seen answered.
type Lease struct {
	Out   int       `json:"n"`
	Until time.Time `json:"until"`
}

// Ask is one replica's request for tokens.
type Ask struct {
	Replica string
	// Out is how many requests this replica has under way or may still send with what it already holds.
	Out int
	// Want is how many more tokens each share could use within the horizon.
	Want [shares]int
	// Back is how many tokens of each share are given back unused; Out no longer holds them.
	Back [shares]int
	// SweepShare, when not zero, is the part sweeps should have.
	SweepShare float64
}

// Lot is a run of tokens for one share: the first is due at Start, the following ones Every later each. None may be used after Until.
type Lot struct {
	Share Share
	N     int
	Start time.Time
	Every time.Duration
	Until time.Time
}

// Answer is what an Ask brings.
type Answer struct {
	Lots []Lot
	// Until says, for a share whose want was not met, when to ask again.
	Until [shares]time.Time
	Why   string
}

// Blocked says whether nothing may be sent now because LeadGrid said so.
func (s *State) Blocked(now time.Time) bool { return now.Before(s.BlockedUntil) }

// part returns a share's guaranteed part of the pace.
func (s *State) part(c Share) float64 {
	sweeps := max(s.SweepShare, guaranteed[Sweeps])
	if c == Sweeps {
		return sweeps
	}
	return guaranteed[c] * (1 - sweeps) / (1 - guaranteed[Sweeps])
}

// Grant hands out tokens: first what each share is guaranteed, then what the others leave idle.
func (s *State) Grant(now time.Time, ask Ask) Answer {
	s.settle(now, ask)
	var answer Answer
	if s.Blocked(now) {
		answer.Why = s.BlockedWhy
		for c := range answer.Until {
			answer.Until[c] = s.BlockedUntil
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
		if s.short() && ask.Want[c] > 0 {
			s.Asked[c] = now
		}
	}
	given := 0
	for c := range shares {
		if ask.Want[c] <= 0 {
			continue
		}
		own, rate := &s.Own[c], pace*s.part(c)
		lots := own.take(now, min(ask.Want[c], room-given), rate, ahead)
		n := tokens(lots)
		s.All.Level -= float64(n)
		lent := s.All.take(now, min(ask.Want[c], room-given-s.kept(c, now))-n, pace, ahead)
		n += tokens(lent)
		for _, lot := range append(lots, lent...) {
			lot.Share = c
			answer.Lots = append(answer.Lots, lot)
		}
		given += n
		s.Used[c] += int64(n)
		switch {
		case n == ask.Want[c]:
		case given >= room:
			answer.Until[c], answer.Why = roomAt, "LeadGrid's limit is used up for now"
		default:
			wait := own.due(1, rate)
			if s.kept(c, now) == 0 {
				wait = min(wait, s.All.due(1, pace))
			}
			if s.Window == 0 && s.Limit > 0 {
				wait = min(wait, max(s.gone(now)/16, horizon)) // by then it may be known
			}
			answer.Until[c], answer.Why = now.Add(wait), "LeadGrid's limit allows no more at once"
			s.pressed(now)
		}
		if n < ask.Want[c] {
			answer.Until[c] = later(answer.Until[c], now.Add(soon))
		}
	}
	if given > 0 {
		s.Leases[ask.Replica] = Lease{Out: ask.Out + given, Until: now.Add(lapse)}
		s.Granted = now
	}
	return answer
}

// kept is how many tokens may not be lent to a share since the others, who asked of late, may still take them: where all
// of a short window is spent at once, they would come too late.
func (s *State) kept(lent Share, now time.Time) (n int) {
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

// settle takes in what the asking replica says of itself and forgets replicas that have been silent for too long.
func (s *State) settle(now time.Time, ask Ask) {
	if s.Leases == nil {
		s.Leases = map[string]Lease{}
	}
	maps.DeleteFunc(s.Leases, func(_ string, l Lease) bool { return !now.Before(l.Until) })
	if ask.SweepShare > 0 {
		s.SweepShare = min(ask.SweepShare, 0.9)
	}
	for c, n := range ask.Back {
		s.Own[c].Level += float64(n)
		s.All.Level += float64(n)
		s.Used[c] -= int64(n)
	}
	delete(s.Leases, ask.Replica)
	if ask.Out > 0 {
		s.Leases[ask.Replica] = Lease{Out: ask.Out, Until: now.Add(lapse)}
	}
}

// out counts the requests that may reach LeadGrid without being in what it has said so far.
func (s *State) out() int {
	n := 0
	for _, lease := range s.Leases {
		n += lease.Out
	}
	return n
}

func tokens(lots []Lot) (n int) {
	for _, lot := range lots {
		n += lot.N
	}
	return n
}

// Pot is a token bucket: tokens fall due at a rate and are saved up to a depth. It may be in debt.
type Pot struct {
	Level float64   `json:"level"`
	At    time.Time `json:"at"`
}

// fill adds what has fallen due since the last time.
func (p *Pot) fill(now time.Time, rate, depth float64) {
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
func (p *Pot) due(i int, rate float64) time.Duration {
	return seconds(max(0, float64(i)-p.Level) / rate)
}

// take leases up to n tokens that fall due within the horizon: at most one lot at once and one spread over time.
func (p *Pot) take(now time.Time, n int, rate float64, horizon time.Duration) []Lot {
	const rounding = 1e-6
	n = min(n, int(p.Level+rate*horizon.Seconds()+rounding))
	if n <= 0 {
		return nil
	}
	var lots []Lot
	ready := min(n, int(p.Level+rounding))
	if ready > 0 {
		lots = append(lots, Lot{N: ready, Start: now, Until: now.Add(grace)})
	} else {
		ready = 0
	}
	if rest := n - ready; rest > 0 {
		last := now.Add(p.due(n, rate))
		lots = append(lots, Lot{N: rest, Start: now.Add(p.due(ready+1, rate)), Every: seconds(1 / rate), Until: last.Add(grace)})
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
