package budget

import (
	"math"
	"slices"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// purse is what one replica holds: leased tokens, requests under way, and answers it has not yet told the others. Like
// state it knows no clock of its own.
type purse struct {
	lots [shares][]lot
	// inFlight is when each request under way was allowed, oldest first.
	inFlight []time.Time
	seen     []leadgridapi.Observation
	// demand is how many tokens a second each share has taken lately; taken counts them since a time.
	demand [shares]float64
	taken  [shares]int
	since  time.Time
}

// maxSeen bounds the answers kept while the database cannot be reached.
const maxSeen = 10_000

// lost is after how long a request whose answer was never told no longer counts as under way.
const lost = time.Minute

// take uses up a token that is due. If none is, due says when the next one held will be, zero if none is held.
func (p *purse) take(now time.Time, c Share) (ok bool, due time.Time) {
	p.expire(now)
	for i := range p.lots[c] {
		lot := &p.lots[c][i]
		if lot.start.After(now) {
			if due.IsZero() || lot.start.Before(due) {
				due = lot.start
			}
			continue
		}
		lot.n--
		lot.start = lot.start.Add(lot.every)
		p.inFlight = append(p.inFlight, now)
		p.taken[c]++
		return true, now
	}
	return false, due
}

// expire forgets lots that are spent or may no longer be used, and requests of which no answer was ever told.
func (p *purse) expire(now time.Time) {
	answered, _ := slices.BinarySearchFunc(p.inFlight, now.Add(-lost), time.Time.Compare)
	p.inFlight = p.inFlight[answered:]
	for c := range p.lots {
		p.lots[c] = slices.DeleteFunc(p.lots[c], func(l lot) bool { return l.n == 0 || now.After(l.until) })
	}
}

// drop forgets all leased tokens: after a refusal they mean nothing.
func (p *purse) drop() { p.lots = [shares][]lot{} }

// held counts the leased tokens of one share.
func (p *purse) held(c Share) int { return tokens(p.lots[c]) }

// observe notes an answer.
func (p *purse) observe(o leadgridapi.Observation) {
	if len(p.inFlight) > 0 {
		p.inFlight = p.inFlight[1:]
	}
	if o.Status == 0 {
		return
	}
	if len(p.seen) >= maxSeen {
		p.seen = slices.Delete(p.seen, 0, maxSeen/2)
	}
	p.seen = append(p.seen, o)
}

// ask says what to ask for: what is waited for now and, going by the demand so far, what will be within the horizon.
func (p *purse) ask(now time.Time, replica string, waiting [shares]int) ask {
	p.expire(now)
	if gap := now.Sub(p.since).Seconds(); gap >= horizon.Seconds()/2 {
		for c := range p.demand {
			p.demand[c] = (p.demand[c] + float64(p.taken[c])/gap) / 2
			p.taken[c] = 0
		}
		p.since = now
	}
	ask := ask{replica: replica, out: len(p.inFlight)}
	for c := range shares {
		held := p.held(c)
		ask.out += held
		if waiting[c] > 0 {
			ask.want[c] = max(waiting[c], int(math.Ceil(p.demand[c]*horizon.Seconds()*2))) - held
		}
		ask.want[c] = max(ask.want[c], 0)
	}
	return ask
}

// receive puts a leased lot in.
func (p *purse) receive(lot lot) { p.lots[lot.share] = append(p.lots[lot.share], lot) }
