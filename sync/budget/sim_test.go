package budget

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// limiter is how a simulated server limits: whether it takes a request now, what it says is left, and, if it refuses,
// after how long it would take one.
type limiter interface {
	admit(now time.Time) (ok bool, remaining int, retry time.Duration)
}

// fixed windows begin at multiples of their length, or with the first request after the last one's end.
type fixed struct {
	limit    int
	window   time.Duration
	anchored bool
	end      time.Time
	n        int
}

func (f *fixed) admit(now time.Time) (bool, int, time.Duration) {
	if !now.Before(f.end) {
		f.n = 0
		f.end = now.Truncate(f.window).Add(f.window)
		if f.anchored {
			f.end = now.Add(f.window)
		}
	}
	if f.n >= f.limit {
		return false, 0, f.end.Sub(now)
	}
	f.n++
	return true, f.limit - f.n, 0
}

// others sends requests that the budget knows nothing of.
func (w *world) others(every time.Duration) {
	w.server.admit(w.now)
	w.after(every, func() { w.others(every) })
}

// sliding counts the requests of the last window.
type sliding struct {
	limit  int
	window time.Duration
	sent   []time.Time
}

func (s *sliding) admit(now time.Time) (bool, int, time.Duration) {
	for len(s.sent) > 0 && !s.sent[0].After(now.Add(-s.window)) {
		s.sent = s.sent[1:]
	}
	if len(s.sent) >= s.limit {
		return false, 0, s.sent[0].Add(s.window).Sub(now)
	}
	s.sent = append(s.sent, now)
	return true, s.limit - len(s.sent), 0
}

// bucket refills limit tokens a window, one by one.
type bucket struct {
	limit  int
	window time.Duration
	level  float64
	at     time.Time
}

func (b *bucket) admit(now time.Time) (bool, int, time.Duration) {
	rate := float64(b.limit) / b.window.Seconds()
	if b.at.IsZero() {
		b.level = float64(b.limit)
	} else {
		b.level = min(float64(b.limit), b.level+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
	if b.level < 1 {
		return false, 0, seconds((1 - b.level) / rate)
	}
	b.level--
	return true, int(b.level), 0
}

// world is a simulated server, replicas around one state, and the requests that they want to send.
type world struct {
	now      time.Time
	rng      *rand.Rand
	server   limiter
	limit    int
	headers  bool
	latency  time.Duration
	state    state
	purses   []*purse
	queue    events
	accepted []time.Time
	refused  []time.Time
	byShare  [shares]int
	// demand, when given, says whether a share has anything to send.
	demand     func(c Share, now time.Time) bool
	dead       map[int]bool
	sweepShare float64
	// waiting are woken by an answer that says more is left.
	waiting []func()
	seq     int
}

type event struct {
	at  time.Time
	seq int
	do  func()
}
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, do})
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(seed uint64, server limiter, limit int, headers bool, replicas int) *world {
	w := &world{
		now: epoch.Add(time.Duration(seed*7919%60000) * time.Millisecond), rng: rand.New(rand.NewPCG(seed, 1)), server: server, limit: limit, headers: headers,
		latency: 80 * time.Millisecond,
	}
	for r := range replicas {
		w.purses = append(w.purses, &purse{})
		w.flush(r)
	}
	return w
}

// worker sends requests of one share from one replica, one after the other.
func (w *world) worker(r int, c Share) {
	p := w.purses[r]
	if w.dead[r] {
		return
	}
	if w.demand != nil && !w.demand(c, w.now) {
		w.after(50*time.Millisecond, func() { w.worker(r, c) })
		return
	}
	if !w.state.blocked(w.now) {
		ok, due := p.take(w.now, c)
		if !ok && due.IsZero() {
			var waiting [shares]int
			waiting[c] = 1
			w.tell(p)
			ask := p.ask(w.now, fmt.Sprint(r), waiting)
			ask.sweepShare = w.sweepShare
			answer := w.state.grant(w.now, ask)
			for _, lot := range answer.lots {
				p.receive(lot)
			}
			due = answer.until[c]
			if tokens(answer.lots) > 0 {
				ok, due = p.take(w.now, c)
			}
		}
		if ok {
			w.byShare[c]++
			w.send(p, func() { w.worker(r, c) })
			return
		}
		woken := false
		wake := func() {
			if !woken {
				woken = true
				w.worker(r, c)
			}
		}
		w.waiting = append(w.waiting, wake)
		w.after(max(due.Sub(w.now), time.Millisecond), wake)
		return
	}
	w.after(max(w.state.BlockedUntil.Sub(w.now), time.Millisecond), func() { w.worker(r, c) })
}

// tell passes on what a replica saw.
func (w *world) tell(p *purse) {
	for _, o := range p.seen {
		w.state.observe(o)
	}
	p.seen = nil
}

// flush tells once a second what a replica saw, as Run does.
func (w *world) flush(r int) {
	p := w.purses[r]
	if w.dead[r] {
		return
	}
	if len(p.seen) > 0 {
		w.tell(p)
		w.state.grant(w.now, p.ask(w.now, fmt.Sprint(r), [shares]int{}))
	}
	w.after(time.Second, func() { w.flush(r) })
}

func (w *world) send(p *purse, then func()) {
	sent := w.now
	there := time.Duration(float64(w.latency) * (0.2 + 0.5*w.rng.Float64()))
	back := time.Duration(float64(w.latency) * (0.2 + 0.5*w.rng.Float64()))
	w.after(there, func() {
		ok, remaining, retry := w.server.admit(w.now)
		o := leadgridapi.Observation{Sent: sent, Status: 200}
		if w.headers {
			o.Limit, o.Remaining = new(w.limit), &remaining
		}
		if ok {
			w.accepted = append(w.accepted, w.now)
		} else {
			w.refused = append(w.refused, w.now)
			o.Status = 429
			o.RetryAfter = (retry + time.Second - 1).Truncate(time.Second)
		}
		w.after(back, func() {
			o.Answered = w.now
			p.observe(o)
			if o.Status == 429 {
				for _, q := range w.purses {
					q.drop()
				}
				w.tell(p)
			}
			if w.headers && w.state.risen(*o.Remaining) {
				waiting := w.waiting
				w.waiting = nil
				for _, wake := range waiting {
					w.after(0, wake)
				}
			}
			then()
		})
	})
}

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

func count(times []time.Time, from, to time.Time) (n int) {
	for _, t := range times {
		if !t.Before(from) && t.Before(to) {
			n++
		}
	}
	return n
}

type kind struct {
	name string
	// extra is how many more refusals than one a window learning may take: a bucket has no window.
	extra float64
	make  func(limit int, window time.Duration) limiter
}

var kinds = []kind{
	{"fixed", 0, func(l int, w time.Duration) limiter { return &fixed{limit: l, window: w} }},
	{"anchored", 0, func(l int, w time.Duration) limiter { return &fixed{limit: l, window: w, anchored: true} }},
	{"sliding", 0, func(l int, w time.Duration) limiter { return &sliding{limit: l, window: w} }},
	{"bucket", 10, func(l int, w time.Duration) limiter { return &bucket{limit: l, window: w} }},
}
