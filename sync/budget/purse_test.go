package budget

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// Tokens that arrive while a refusal is being learned of are not used: the block is looked at last of all.
func TestPromise8_TokensInHandDoNotBreakABlock(t *testing.T) {
	b := New(nil, Options{})
	now := time.Now()
	b.asOf, b.readAt = now, now
	b.observe(leadgridapi.Observation{Sent: now, Answered: now, Status: 429, RetryAfter: time.Minute})
	b.purse.receive(lot{share: Events, n: 5, start: now, until: now.Add(time.Hour)}) // an exchange was under way
	if ok, next, _ := b.try(now.Add(time.Millisecond), Events); ok || !next.Equal(now.Add(time.Minute)) {
		t.Errorf("try = %v, %v; want no token until the block is over", ok, next)
	}
}

// Nor are tokens used on knowledge that is too old to rule out a block that another replica met.
func TestPromise8_OldKnowledgeIsReadAgain(t *testing.T) {
	b := New(nil, Options{})
	for _, c := range []struct {
		age  time.Duration
		want bool
	}{{fresh / 2, true}, {fresh + justRead + time.Millisecond, false}, {time.Hour, false}} {
		now := time.Now()
		b.asOf, b.readAt = now.Add(-c.age), now.Add(-c.age)
		b.purse.receive(lot{share: Events, n: 1, start: now, until: now.Add(time.Hour)})
		if ok, next, _ := b.try(now, Events); ok != c.want || !ok && !next.IsZero() {
			t.Errorf("with knowledge %v old: %v, try again at %v", c.age, ok, next)
		}
	}
}

// What could not be told, because the database did not answer, is told the next time.
func TestPromise8_WhatWasNotToldIsKept(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres:///nothing?host=/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	b := New(pool, Options{})
	b.observe(leadgridapi.Observation{Status: 200})
	b.observe(leadgridapi.Observation{Status: 429, RetryAfter: time.Minute})
	for name, exchange := range map[string]func() error{
		"tell":  func() error { _, err := b.tell(t.Context(), pool); return err },
		"leave": func() error { return b.leave(t.Context()) },
		"lease": func() error { b.mu.Lock(); defer b.mu.Unlock(); return b.lease(t.Context()) },
	} {
		if err := exchange(); err == nil || len(b.purse.seen) != 2 || b.purse.seen[1].Status != 429 {
			t.Errorf("after %s = %v, %v is still to be told", name, err, b.purse.seen)
		}
	}
}

func TestPurse(t *testing.T) {
	var p purse
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	p.receive(lot{share: Sweeps, n: 2, start: at(100), every: 50 * time.Millisecond, until: at(1000)})
	if ok, due := p.take(at(0), Sweeps); ok || !due.Equal(at(100)) {
		t.Errorf("before a token is due: %v, %v", ok, due)
	}
	if ok, _ := p.take(at(100), Events); ok {
		t.Error("an event took a sweep's token")
	}
	if ok, _ := p.take(at(100), Sweeps); !ok {
		t.Error("a token that is due was not given")
	}
	if ok, due := p.take(at(120), Sweeps); ok || !due.Equal(at(150)) {
		t.Errorf("between two tokens: %v, %v", ok, due)
	}
	if ask := p.ask(at(120), "r", [shares]int{Sweeps: 1}); ask.out != 2 || ask.want[Sweeps] != 0 {
		t.Errorf("with one under way and one in hand: %+v", ask)
	}
	p.observe(leadgridapi.Observation{Status: 200})
	if ok, _ := p.take(at(1001), Sweeps); ok {
		t.Error("a token was used after its time")
	}
	if ask := p.ask(at(1001), "r", [shares]int{}); ask.out != 0 || len(p.seen) != 1 {
		t.Errorf("after the answer: %+v, %d seen", ask, len(p.seen))
	}
	p.receive(lot{share: Events, n: 1, start: at(2000), until: at(3000)})
	if ok, _ := p.take(at(2000), Events); !ok {
		t.Error("a token that is due was not given")
	}
	if ask := p.ask(at(2000).Add(lost+1), "r", [shares]int{}); ask.out != 0 {
		t.Errorf("a request whose answer never came counts for ever: %+v", ask)
	}
	for range maxSeen + 10 {
		p.observe(leadgridapi.Observation{Status: 200})
	}
	if len(p.seen) > maxSeen {
		t.Errorf("%d answers are kept without a database", len(p.seen))
	}
}
