package budget

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// Whatever LeadGrid answers, in whatever order, and whatever is asked: nothing panics, nothing is given during a block,
// no more is given than was asked for or announced, the pace stays a usable number, and the state survives being stored.
func TestStateWhateverComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s state
		now := epoch
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now = now.Add(rapid.OneOf(
				rapid.Just(time.Duration(0)),
				rapid.Map(rapid.IntRange(0, 5000), func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }),
				rapid.Map(rapid.IntRange(0, 100), func(h int) time.Duration { return time.Duration(h) * time.Hour }),
			).Draw(t, "later"))
			if rapid.Bool().Draw(t, "answer") {
				s.observe(drawObservation(t, now))
			} else {
				drawGrant(t, &s, now)
			}
			if pace := s.pace(now); !(pace > 0) || math.IsInf(pace, 0) {
				t.Fatalf("the pace is %v: %+v", pace, s)
			}
			stored, err := json.Marshal(&s)
			if err != nil {
				t.Fatal(err)
			}
			var back state
			if err := json.Unmarshal(stored, &back); err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(&back); string(again) != string(stored) {
				t.Fatalf("stored %s\ncame back as %s", stored, again)
			}
			if len(stored) > 8000 {
				t.Fatalf("the state takes %d bytes", len(stored))
			}
			s = back
		}
	})
}

func drawObservation(t *rapid.T, now time.Time) leadgridapi.Observation {
	number := rapid.Ptr(rapid.SampledFrom([]int{-1, 0, 1, 2, 3, 59, 60, 61, 300, 5000, math.MaxInt}), true)
	sent := now.Add(-time.Duration(rapid.IntRange(0, 3000).Draw(t, "age")) * time.Millisecond)
	return leadgridapi.Observation{
		Sent:     sent,
		Answered: sent.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "took")) * time.Millisecond),
		Status:   rapid.SampledFrom([]int{0, 200, 200, 200, 404, 429, 500}).Draw(t, "status"),
		Limit:    number.Draw(t, "limit"), Remaining: number.Draw(t, "remaining"),
		RetryAfter: rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour, math.MaxUint32 * time.Second}).Draw(t, "retry after"),
	}
}

func drawGrant(t *rapid.T, s *state, now time.Time) {
	wants := rapid.IntRange(0, 50)
	ask := ask{
		replica:    fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "replica")),
		out:        rapid.IntRange(0, 20).Draw(t, "out"),
		want:       [shares]int{wants.Draw(t, "events"), wants.Draw(t, "write-back"), wants.Draw(t, "sweeps")},
		sweepShare: rapid.SampledFrom([]float64{0, 0.1, 0.5, 1, 7, -1, math.NaN()}).Draw(t, "sweep share"),
	}
	blocked := s.blocked(now)
	answer := s.grant(now, ask)
	var given [shares]int
	for _, lot := range answer.lots {
		given[lot.share] += lot.n
		last := lot.start.Add(time.Duration(lot.n-1) * lot.every)
		if lot.n < 1 || lot.start.Before(now) || last.After(now.Add(horizon+time.Millisecond)) || !lot.until.After(last) {
			t.Fatalf("lot %+v at %v", lot, now)
		}
	}
	total := 0
	for c := range shares {
		total += given[c]
		if given[c] > ask.want[c] {
			t.Fatalf("%v wanted %d and got %d", c, ask.want[c], given[c])
		}
		if given[c] < ask.want[c] && !answer.until[c].After(now) {
			t.Fatalf("%v got %d of %d and is to ask again at %v, now is %v", c, given[c], ask.want[c], answer.until[c], now)
		}
	}
	if blocked && total > 0 {
		t.Fatalf("%d tokens given during a block", total)
	}
	if s.trusted(now) && total > s.Limit {
		t.Fatalf("%d tokens given of an announced limit of %d: %+v, %+v", total, s.Limit, answer, s)
	}
}

// Of answers that come out of order the newest in LeadGrid's order counts, and of concurrent ones the lowest.
func TestReadingsOutOfOrder(t *testing.T) {
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	seen := func(sent, answered, remaining int) leadgridapi.Observation {
		return leadgridapi.Observation{Sent: at(sent), Answered: at(answered), Status: 200, Limit: new(60), Remaining: &remaining}
	}
	for _, c := range []struct {
		name string
		seen []leadgridapi.Observation
		want int
	}{
		{"in order", []leadgridapi.Observation{seen(0, 10, 50), seen(20, 30, 49), seen(40, 50, 48)}, 48},
		{"an old one comes late", []leadgridapi.Observation{seen(40, 50, 48), seen(0, 10, 50)}, 48},
		{"an old low one comes late, after the window's end", []leadgridapi.Observation{seen(40, 50, 59), seen(0, 10, 0)}, 59},
		{"concurrent, the lower first", []leadgridapi.Observation{seen(0, 30, 48), seen(10, 40, 49)}, 48},
		{"concurrent, the lower last", []leadgridapi.Observation{seen(0, 30, 49), seen(10, 40, 48)}, 48},
		{"a new window", []leadgridapi.Observation{seen(0, 10, 1), seen(20, 30, 59)}, 59},
		{"rubbish is ignored", []leadgridapi.Observation{seen(0, 10, 40), seen(20, 30, 61), seen(40, 50, -1)}, 40},
	} {
		var s state
		for _, o := range c.seen {
			s.observe(o)
		}
		if s.Reading.Remaining != c.want {
			t.Errorf("%s: %d remain, want %d", c.name, s.Reading.Remaining, c.want)
		}
	}
}

// Several refusals of requests that were under way together are one, and the longest wait counts.
func TestRefusalsTogetherAreOne(t *testing.T) {
	var s state
	refused := func(sent, answered time.Duration, wait time.Duration) {
		s.observe(leadgridapi.Observation{Sent: epoch.Add(sent), Answered: epoch.Add(answered), Status: 429, RetryAfter: wait})
	}
	s.observe(leadgridapi.Observation{Sent: epoch, Answered: epoch.Add(time.Second), Status: 200})
	refused(time.Second, 10*time.Second, time.Minute)
	ceiling := s.Ceiling
	refused(2*time.Second, 11*time.Second, 30*time.Second)
	refused(3*time.Second, 12*time.Second, time.Minute)
	if s.Ceiling != ceiling || s.Refusals != 3 || !s.BlockedUntil.Equal(epoch.Add(72*time.Second)) {
		t.Errorf("after three refusals at once: ceiling %v, first %v; %d; blocked until %v", s.Ceiling, ceiling, s.Refusals, s.BlockedUntil)
	}
	// A new refusal after the block halves the pace.
	before := s.guessedPace()
	s.Waited = recovery
	full := s.guessedPace()
	refused(80*time.Second, 81*time.Second, time.Second)
	if now := s.guessedPace(); before < 0.4*full || before > 0.6*full || now > full {
		t.Errorf("pace %v after a refusal, %v once recovered, %v after the next", before, full, now)
	}
}

func TestHistory(t *testing.T) {
	var h history
	const window = 64 * time.Second
	for i := range 200 {
		h.add(epoch.Add(time.Duration(i)*time.Second), window)
	}
	now := epoch.Add(199 * time.Second)
	for _, n := range []int{1, 10, 60, 100} {
		slot, _, ok := h.last(now, n)
		if got, want := h.at(slot), now.Add(-time.Duration(n-1)*time.Second); !ok || got.Sub(want).Abs() > h.Slot {
			t.Errorf("the %d. last request was at %v, want %v", n, got, want)
		}
	}
	if _, _, ok := h.last(now, 500); ok {
		t.Error("the 500. last of 200 requests was found")
	}
	if got := h.before(now, 60, now.Add(-30*time.Second)); got < 28 || got > 30 {
		t.Errorf("%d of the last 60 requests lie more than 30 s back, want about 30", got)
	}
	sum := 1
	for _, n := range h.Count {
		sum += n
	}
	h.add(now, time.Hour) // longer slots lose no request
	for _, n := range h.Count {
		sum -= n
	}
	if sum != 0 {
		t.Errorf("with a longer window %d requests were lost", sum)
	}
	h.add(now, time.Second)
	if len(h.Count) > 2*slotsKept {
		t.Errorf("%d slots", len(h.Count))
	}
}
