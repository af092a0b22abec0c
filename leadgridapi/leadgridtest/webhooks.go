package leadgridtest

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Delivery is one attempt to deliver an event.
type Delivery struct {
	Time    time.Time
	URL     string
	EventID string
	Type    string
	Attempt int // from 1
	Status  int // 0 when there was no answer
}

type endpoint struct {
	url, secret string
	gone        bool
}

// delivery is an event on its way to one endpoint.
type delivery struct {
	event   *event
	to      *endpoint
	id      string // the event's, until a retry gets a new one
	attempt int
	due     time.Time
	rank    uint64 // order among those due at the same time
	signed  string // the signature last sent
}

// hooks delivers one organization's webhooks. Delays and back-off run on the real clock; signatures carry
// the server's.
type hooks struct {
	server *Server
	client *http.Client
	wake   chan struct{}
	ctx    context.Context // ends with the server
	cancel context.CancelFunc
	halted sync.WaitGroup

	mu         sync.Mutex
	changed    *sync.Cond // something was delivered or given up
	rng        *rand.Rand
	endpoints  []*endpoint
	waiting    queue
	inflight   int
	draining   int
	sent       uint64
	events     []Event
	deliveries []Delivery
}

func newHooks(s *Server, stream uint64) *hooks {
	h := &hooks{
		server: s, wake: make(chan struct{}, 1),
		rng: rand.New(rand.NewPCG(s.opts.Seed, ^stream)),
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.changed = sync.NewCond(&h.mu)
	h.halted.Go(h.run)
	return h
}

// RegisterWebhook sends the organization's events from now on to a URL, signed with the secret.
func (o *Organization) RegisterWebhook(url, secret string) {
	o.hooks.mu.Lock()
	defer o.hooks.mu.Unlock()
	o.hooks.endpoints = append(o.hooks.endpoints, &endpoint{url: url, secret: secret})
}

// UnregisterWebhook stops sending to a URL, and gives up deliveries to it that are under way.
func (o *Organization) UnregisterWebhook(url string) {
	o.hooks.mu.Lock()
	defer o.hooks.mu.Unlock()
	o.hooks.endpoints = slices.DeleteFunc(o.hooks.endpoints, func(e *endpoint) bool {
		e.gone = e.gone || e.url == url
		return e.url == url
	})
}

// RotateWebhookSecret signs webhooks to a URL with another secret from now on.
func (o *Organization) RotateWebhookSecret(url, secret string) {
	o.hooks.mu.Lock()
	defer o.hooks.mu.Unlock()
	for _, e := range o.hooks.endpoints {
		if e.url == url {
			e.secret = secret
		}
	}
}

// Events returns the events fired so far, sent or not.
func (o *Organization) Events() []Event {
	o.hooks.mu.Lock()
	defer o.hooks.mu.Unlock()
	return slices.Clone(o.hooks.events)
}

// Deliveries returns the attempts made so far.
func (o *Organization) Deliveries() []Delivery {
	o.hooks.mu.Lock()
	defer o.hooks.mu.Unlock()
	return slices.Clone(o.hooks.deliveries)
}

// DrainWebhooks sends all waiting events, including delayed ones and retries, without waiting until they are
// due, and returns when all are delivered or given up.
func (o *Organization) DrainWebhooks(ctx context.Context) error {
	h := o.hooks
	stop := context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changed.Broadcast()
	})
	defer stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining++
	defer func() { h.draining-- }()
	for _, d := range h.waiting {
		d.due = time.Time{}
	}
	heap.Init(&h.waiting)
	h.poke()
	for len(h.waiting) > 0 || h.inflight > 0 {
		if err := cmp.Or(ctx.Err(), h.ctx.Err()); err != nil {
			return err
		}
		h.changed.Wait()
	}
	return nil
}

// send queues the events of a change for every endpoint.
func (h *hooks) send(events []event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	faults := h.server.Settings().Faults
	happens := func(p float64) bool { return h.rng.Float64() < p }
	for i := range events {
		e := &events[i]
		e.Dropped = happens(faults.WebhookDropped)
		h.events = keep(append(h.events, e.Event), h.server.opts.LedgerSize)
		for _, to := range h.endpoints {
			copies := 1
			if happens(faults.WebhookDoubled) {
				copies = 2
			}
			for range copies {
				h.sent += 16
				d := &delivery{event: e, to: to, id: e.ID, due: time.Now(), rank: h.sent}
				if happens(faults.WebhookReordered) {
					// Held for a moment and behind up to eight later ones, drained or not.
					d.rank += 8 + 16*uint64(1+h.rng.IntN(8))
					d.due = d.due.Add(time.Duration(h.rng.IntN(250)) * time.Millisecond)
				}
				if happens(faults.WebhookDelayed) {
					d.due = d.due.Add(time.Duration(h.rng.Float64() * float64(cmp.Or(faults.WebhookDelay, 30*time.Second))))
				}
				if !e.Dropped {
					h.push(d)
				}
			}
		}
	}
	h.poke()
}

func (h *hooks) push(d *delivery) {
	if h.draining > 0 {
		d.due = time.Time{}
	}
	heap.Push(&h.waiting, d)
}

func (h *hooks) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run starts what is due, as many at once as allowed, until the server closes.
func (h *hooks) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(h.start())
		select {
		case <-h.wake:
		case <-timer.C:
		case <-h.ctx.Done():
			return
		}
	}
}

// start sends what is due, and returns in how long the next delivery is due.
func (h *hooks) start() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	limits := h.server.Settings().Limits
	for len(h.waiting) > 0 && h.inflight < cmp.Or(limits.WebhookConcurrency, 1) {
		if wait := time.Until(h.waiting[0].due); wait > 0 {
			return wait
		}
		d := heap.Pop(&h.waiting).(*delivery)
		h.inflight++
		h.halted.Go(func() { h.deliver(d, limits) })
	}
	return time.Hour
}

// deliver makes one attempt and queues the next one if it fails.
func (h *hooks) deliver(d *delivery, limits Limits) {
	habit := h.server.Settings().Habits.Redelivery
	now := h.server.opts.Now()
	h.mu.Lock()
	d.attempt++
	if d.attempt > 1 && habit == "new-id" {
		d.id = "evt_" + strconv.FormatUint(h.rng.Uint64(), 16)
	}
	body := d.event.body(d.id)
	if d.signed == "" || habit != "verbatim" {
		d.signed = signature(d.to.secret, now, body)
	}
	gone := d.to.gone
	h.mu.Unlock()

	status := 0
	if !gone {
		status = h.post(d, body, cmp.Or(limits.WebhookTimeout, 10*time.Second))
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	h.inflight--
	h.deliveries = keep(append(h.deliveries, Delivery{now, d.to.url, d.id, d.event.Type, d.attempt, status}), h.server.opts.LedgerSize)
	delivered := status >= 200 && status < 300
	if !delivered && !d.to.gone && habit != "never" && d.attempt < cmp.Or(limits.WebhookAttempts, 5) {
		d.due = time.Now().Add(cmp.Or(limits.WebhookBackoff, time.Second) << (d.attempt - 1))
		h.push(d)
	}
	h.changed.Broadcast()
	h.poke()
}

// post returns the receiver's status, or 0 if it gave none.
func (h *hooks) post(d *delivery, body []byte, timeout time.Duration) int {
	ctx, cancel := context.WithTimeout(h.ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.to.url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "LeadGrid-Webhooks/1.0")
	request.Header.Set("X-LeadGrid-Signature", d.signed)
	response, err := h.client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	return response.StatusCode
}

func (h *hooks) stop() {
	h.cancel()
	h.halted.Wait()
	h.mu.Lock()
	h.changed.Broadcast()
	h.mu.Unlock()
	h.client.CloseIdleConnections()
}

// queue is a heap of deliveries, the next one first.
type queue []*delivery

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].rank < q[j].rank
}
func (q *queue) Push(d any) { *q = append(*q, d.(*delivery)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
