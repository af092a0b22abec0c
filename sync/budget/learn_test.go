package budget

import (
	"fmt"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// sweep lets three replicas with three workers each send as much as the budget lets them.
func sweep(w *world) {
	for r := range w.purses {
		for range 3 {
			w.worker(r, Sweeps)
		}
	}
}

// used is which part of the limit was used between two times.
func used(w *world, limit int, window time.Duration, from time.Time) float64 {
	return float64(count(w.accepted, from, w.now)) / (float64(limit) * w.now.Sub(from).Seconds() / window.Seconds())
}

// An announced limit is used to at least 95% in steady sweeping, whatever kind of limit it is, with at most one refused
// request a window while it is being learned and none afterwards.
func TestPromise8_AnnouncedLimitIsUsed(t *testing.T) {
	for _, k := range kinds {
		for _, c := range []struct {
			limit  int
			window time.Duration
		}{{60, time.Minute}, {300, time.Minute}, {100, 10 * time.Second}, {1000, time.Hour}} {
			t.Run(fmt.Sprintf("%s %d per %v", k.name, c.limit, c.window), func(t *testing.T) {
				t.Parallel()
				seeds := uint64(3)
				if c.window > time.Minute {
					seeds = 1 // costs as much as all others together
				}
				for seed := range seeds {
					w := newWorld(seed, k.make(c.limit, c.window), c.limit, true, 3)
					sweep(w)
					learning := max(12*c.window, 5*time.Minute)
					start := w.now
					w.run(learning)
					if n := count(w.refused, start, w.now); float64(n) > learning.Seconds()/c.window.Seconds()+k.extra {
						t.Errorf("seed %d: %d refused in the first %v", seed, n, learning)
					} else if n > 0 {
						t.Logf("seed %d: %d refused in the first %v", seed, n, learning)
					}
					learned := w.now
					w.run(8 * c.window)
					share := used(w, c.limit, c.window, learned)
					want := 0.95
					if k.name == "anchored" { // its next window begins only with the next request
						want *= float64(c.limit) / float64(c.limit+1)
					}
					if share < want {
						t.Errorf("seed %d: %.1f%% of the limit used", seed, 100*share)
					}
					if n := count(w.refused, learned, w.now); n > 0 {
						t.Errorf("seed %d: %d refused after learning; window taken for %v", seed, n, w.state.Window)
					}
				}
			})
		}
	}
}

// Small limits a second leave little to plan with: a request takes a noticeable part of the window, and so does the way to
// the server. They are learned in a few seconds and then used, with next to no refusals.
func TestPromise8_ShortWindowsAreUsed(t *testing.T) {
	for _, k := range kinds {
		for _, c := range []struct {
			limit   int
			window  time.Duration
			latency time.Duration
			want    float64
		}{
			{5, time.Second, 5 * time.Millisecond, 0.94}, {5, time.Second, 50 * time.Millisecond, 0.90}, {5, time.Second, 200 * time.Millisecond, 0.80},
			{10, time.Second, 5 * time.Millisecond, 0.94}, {10, time.Second, 50 * time.Millisecond, 0.90}, {10, time.Second, 200 * time.Millisecond, 0.80},
			{20, 2 * time.Second, 50 * time.Millisecond, 0.90}, {50, time.Second, 10 * time.Millisecond, 0.90},
		} {
			t.Run(fmt.Sprintf("%s %d per %v, %v away", k.name, c.limit, c.window, c.latency), func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(2) {
					w := newWorld(seed, k.make(c.limit, c.window), c.limit, true, 3)
					w.latency = c.latency
					sweep(w)
					start := w.now
					w.run(20 * time.Second)
					if share := used(w, c.limit, c.window, start); share < 0.75*c.want {
						t.Errorf("seed %d: %.1f%% of the limit used in the first 20 seconds", seed, 100*share)
					}
					w.run(2 * time.Minute)
					learned := w.now
					w.run(time.Minute)
					if share := used(w, c.limit, c.window, learned); share < c.want {
						t.Errorf("seed %d: %.1f%% of the limit used; window taken for %v", seed, 100*share, w.state.Window)
					}
					most := 2
					if k.name == "bucket" {
						most = 15 // one in two to four windows: whole seconds of Retry-After tell a small bucket from a window only now and then
					}
					if n := count(w.refused, learned, w.now); n > most {
						t.Errorf("seed %d: %d refused in a minute after learning; window taken for %v", seed, n, w.state.Window)
					}
				}
			})
		}
	}
}

// Without headers only refusals teach. Few are needed.
func TestPromise8_SilentLimitIsFound(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(4) {
				w := newWorld(seed, k.make(60, time.Minute), 60, false, 3)
				sweep(w)
				w.run(10 * time.Minute)
				learned := w.now
				w.run(20 * time.Minute)
				if share := used(w, 60, time.Minute, learned); share < 0.80 {
					t.Errorf("seed %d: %.1f%% of the limit used", seed, 100*share)
				}
				if n := count(w.refused, learned, w.now); n > 30 {
					t.Errorf("seed %d: %d refused in 20 windows", seed, n)
				}
			}
		})
	}
}

// Another program with the same key takes half of the limit: the rest is ours, and what is refused stays rare.
func TestPromise8_OthersUseTheSameKey(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(3) {
				w := newWorld(seed, k.make(120, time.Minute), 120, true, 3)
				w.others(time.Second)
				sweep(w)
				w.run(10 * time.Minute)
				learned := w.now
				w.run(20 * time.Minute)
				share, n := used(w, 60, time.Minute, learned), count(w.refused, learned, w.now)
				t.Logf("seed %d: %.1f%% of our half used, %d refused", seed, 100*share, n)
				if share < 0.6 || n > 20 {
					t.Errorf("seed %d: %.1f%% of our half used, %d refused in 20 windows", seed, 100*share, n)
				}
			}
		})
	}
}

// Nothing says for how long a request counts. Until that is seen, what is left is not saved up, and whether there is more is
// looked for at times that go with any window: a first sync takes little longer than the limit asks for.
func TestPromise8_FirstWindowsAreUsed(t *testing.T) {
	for _, c := range []struct {
		limit  int
		window time.Duration
		want   float64
	}{{5, time.Second, 0.8}, {10, time.Second, 0.8}, {20, time.Second, 0.5}, {50, time.Second, 0.4}, {100, 10 * time.Second, 0.7}, {60, time.Minute, 0.8}, {300, time.Minute, 0.8}, {1000, time.Hour, 0.9}} {
		for _, k := range kinds {
			w := newWorld(1, k.make(c.limit, c.window), c.limit, true, 1)
			sweep(w)
			from, n := w.now, c.limit*7/2
			for count(w.accepted, from, w.now) < n && w.now.Sub(from) < 20*c.window {
				w.run(c.window / 50)
			}
			share := used(w, c.limit, c.window, from)
			t.Logf("%s %d per %v: %.0f%% used, %d refused", k.name, c.limit, c.window, 100*share, len(w.refused))
			if share < c.want {
				t.Errorf("%s: %.0f%% of the first windows of %d per %v used", k.name, 100*share, c.limit, c.window)
			}
			if k.name != "bucket" && len(w.refused) > 3 {
				t.Errorf("%s: %d refused in the first windows of %d per %v", k.name, len(w.refused), c.limit, c.window)
			}
		}
	}
}

// A limit that changes is followed.
func TestLimitThatChangesIsFollowed(t *testing.T) {
	server := &fixed{limit: 60, window: time.Minute}
	w := newWorld(1, server, 60, true, 3)
	sweep(w)
	w.run(5 * time.Minute)
	server.limit, w.limit = 300, 300
	w.run(2 * time.Minute)
	from := w.now
	w.run(5 * time.Minute)
	if share := used(w, 300, time.Minute, from); share < 0.95 {
		t.Errorf("after the limit rose %.1f%% of it is used", 100*share)
	}
	server.window = 20 * time.Second
	w.run(3 * time.Minute)
	from = w.now
	w.run(5 * time.Minute)
	if share := used(w, 300, 20*time.Second, from); share < 0.90 {
		t.Errorf("after the window shrank %.1f%% of the limit is used", 100*share)
	}
	server.window = 2 * time.Minute
	w.run(10 * time.Minute)
	from = w.now
	w.run(10 * time.Minute)
	if share := used(w, 300, 2*time.Minute, from); share < 0.90 {
		t.Errorf("after the window grew %.1f%% of the limit is used", 100*share)
	}
	if n := count(w.refused, from, w.now); n > 0 {
		t.Errorf("%d refused after learning that", n)
	}
}

// Each share gets what it is guaranteed while all have work, and what the others leave.
func TestPromise8_SharesAreGuaranteedAndLent(t *testing.T) {
	w := newWorld(2, &fixed{limit: 300, window: time.Minute}, 300, true, 3)
	busy := [shares]bool{Sweeps: true}
	w.demand = func(c Share, _ time.Time) bool { return busy[c] }
	for r := range 3 {
		for c := range shares {
			for range 6 {
				w.worker(r, c)
			}
		}
	}
	w.run(6 * time.Minute)
	part := func(d time.Duration) (parts [shares]float64, all float64) {
		before := w.byShare
		from := w.now
		w.run(d)
		n := float64(count(w.accepted, from, w.now))
		for c := range shares {
			parts[c] = float64(w.byShare[c]-before[c]) / n
		}
		return parts, n / (5 * d.Seconds())
	}
	if _, all := part(2 * time.Minute); all < 0.95 {
		t.Errorf("sweeps alone use %.0f%% of the limit, want what the others leave idle too", 100*all)
	}
	busy = [shares]bool{true, true, true}
	got, _ := part(2 * time.Minute)
	for c, want := range guaranteed {
		if got[c] < want-0.04 || got[c] > want+0.06 {
			t.Errorf("with all shares busy %v got %.0f%%, want %.0f%%", Share(c), 100*got[c], 100*want)
		}
	}
	busy[Events] = false
	got, all := part(2 * time.Minute)
	if got[WriteBack] < 0.30 || got[Sweeps] < 0.10 || all < 0.93 {
		t.Errorf("with events idle: %v of %.2f", got, all)
	}
	// Overdue sweeps rise; the others keep their proportions of the rest.
	busy[Events] = true
	w.sweepShare = 0.5
	w.run(time.Second)
	got, _ = part(2 * time.Minute)
	if got[Sweeps] < 0.45 || got[Events] < 0.30 || got[WriteBack] < 0.13 {
		t.Errorf("with overdue sweeps: %v", got)
	}
}

// An event that comes while sweeps use all there is does not wait for them.
func TestPromise8_EventDoesNotWaitBehindSweeps(t *testing.T) {
	w := newWorld(3, &fixed{limit: 60, window: time.Minute}, 60, true, 3)
	sweep(w)
	w.run(10 * time.Minute)
	var worst time.Duration
	for range 60 {
		w.run(5 * time.Second)
		var waiting [shares]int
		waiting[Events] = 1
		from := w.now
		for {
			p := &purse{}
			answer := w.state.grant(w.now, p.ask(w.now, "event", waiting))
			if tokens(answer.lots) > 0 {
				w.state.grant(w.now, ask{replica: "event"}) // sent and answered
				break
			}
			w.run(min(answer.until[Events].Sub(w.now), time.Second))
		}
		worst = max(worst, w.now.Sub(from))
	}
	t.Logf("the slowest of 60 events waited %v", worst)
	if worst > 2*time.Second {
		t.Errorf("an event waited %v at one request a second", worst)
	}
}

// What a dead replica held is missed for a moment only.
func TestPromise8_DeadReplicaCostsAMoment(t *testing.T) {
	w := newWorld(4, &fixed{limit: 300, window: time.Minute}, 300, true, 3)
	sweep(w)
	w.run(6 * time.Minute)
	w.dead = map[int]bool{0: true}
	w.state.Leases["0"] = lease{Out: 30, Until: w.now.Add(lapse)} // which it will never use
	from := w.now
	w.run(time.Minute)
	if share := used(w, 300, time.Minute, from); share < 0.90 {
		t.Errorf("in the minute after a replica died %.0f%% of the limit was used", 100*share)
	}
	from = w.now
	w.run(2 * time.Minute)
	if share := used(w, 300, time.Minute, from); share < 0.97 {
		t.Errorf("later %.0f%% of the limit was used", 100*share)
	}
	if n := count(w.refused, from, w.now); n > 0 {
		t.Errorf("%d refused", n)
	}
}

// An hour is an hour, also for a replica that joins later and has learned nothing itself.
func TestPromise8_RetryAfterOfAnHour(t *testing.T) {
	var s state
	now := epoch
	s.observe(leadgridapi.Observation{Sent: now, Answered: now.Add(time.Second), Status: 429, RetryAfter: time.Hour})
	want := [shares]int{1, 1, 1}
	for _, after := range []time.Duration{2 * time.Second, 30 * time.Minute, time.Hour + time.Second - 1} {
		answer := s.grant(now.Add(after), ask{replica: "new", want: want})
		if len(answer.lots) > 0 || !answer.until[Events].Equal(now.Add(time.Hour+time.Second)) || answer.why == "" {
			t.Errorf("after %v: %+v", after, answer)
		}
	}
	if s := s.status(now.Add(time.Minute)); !s.BlockedUntil.Equal(now.Add(time.Hour+time.Second)) || s.BlockedWhy == "" || s.Pace != 0 {
		t.Errorf("the block is not shown: %+v", s)
	}
	if answer := s.grant(now.Add(time.Hour+time.Second), ask{replica: "new", want: want}); len(answer.lots) == 0 {
		t.Errorf("nothing given after the hour: %+v", answer)
	}
}
