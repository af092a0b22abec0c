package budget

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// exchange tells the others what was seen here, applies change to the state, and takes over what the others know. If
// change is nil it only reads. It is called with the lock held, which it gives up while it asks the database.
func (b *Budget) exchange(ctx context.Context, db querier, change func(s *state, now time.Time)) (snapshot, error) {
	var seen []leadgridapi.Observation
	if change != nil {
		seen, b.purse.seen = b.purse.seen, nil
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	got, err := updateState(ctx, db, func(s *state, now time.Time, ahead time.Duration) bool {
		if change == nil {
			return false
		}
		s.observeAll(seen, ahead)
		change(s, now)
		return true
	})
	b.mu.Lock()
	if err != nil {
		b.purse.seen = append(seen, b.purse.seen...)
		return got, err
	}
	b.adopt(got)
	b.notify()
	return got, nil
}

// adopt takes over what was read, unless what is known was read later.
func (b *Budget) adopt(got snapshot) {
	if got.version < b.version && got.began.Before(b.asOf) {
		return
	}
	if got.state.Risen.After(b.state.Risen) {
		b.askAgain()
	}
	b.state, b.version, b.asOf, b.readAt = got.state, got.version, got.began, time.Now()
	if until := got.state.BlockedUntil.Add(-got.ahead); until.After(b.blocked) && until.After(time.Now()) {
		b.blocked, b.why = until, got.state.BlockedWhy
		b.purse.drop()
	}
}

// lease gets tokens for those who wait, and news for all. It is called with the lock held, like exchange.
func (b *Budget) lease(ctx context.Context) error {
	b.asking = true
	ask := b.purse.ask(time.Now(), b.name, b.waiting)
	for c := range shares {
		if time.Now().Before(b.again[c]) {
			ask.want[c] = 0
		}
	}
	if b.options.SweepShare != nil {
		ask.sweepShare = b.options.SweepShare()
	}
	var granted grant
	var change func(*state, time.Time)
	if ask.want != [shares]int{} || len(b.purse.seen) > 0 {
		change = func(s *state, now time.Time) { granted = s.grant(now, ask) }
	}
	// Others may wait for this exchange too: it does not end with the request that began it.
	got, err := b.exchange(context.WithoutCancel(ctx), b.pool, change)
	b.asking = false
	if err != nil {
		b.notify()
		return err
	}
	for _, lot := range granted.lots {
		lot.start, lot.until = lot.start.Add(-got.ahead), lot.until.Add(-got.ahead)
		b.purse.receive(lot)
	}
	for c := range shares {
		if ask.want[c] == 0 {
			continue
		}
		b.short, b.again[c] = granted.why, time.Time{}
		if until := granted.until[c]; !until.IsZero() {
			b.again[c] = until.Add(-got.ahead)
		}
	}
	return nil
}

// look reads what the others know.
func (b *Budget) look(ctx context.Context, db querier) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := b.exchange(ctx, db, nil)
	return err
}

// tell passes on what was seen here, if anything, and says whether it did.
func (b *Budget) tell(ctx context.Context, db querier) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ask := b.purse.ask(time.Now(), b.name, [shares]int{})
	asking := b.asking // then the exchange under way says what this replica holds
	if len(b.purse.seen) == 0 {
		return false, nil
	}
	_, err := b.exchange(ctx, db, func(s *state, now time.Time) {
		if !asking {
			s.settle(now, ask)
		}
	})
	return true, err
}

// tellSoon is tell over a connection that may be dead without anybody knowing: then the pool is tried without delay.
func (b *Budget) tellSoon(ctx context.Context, conn *pgx.Conn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reconnect)
	defer cancel()
	return b.tell(ctx, conn)
}

// leave tells the last answers and gives back the tokens that were not used.
func (b *Budget) leave(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ask := b.purse.ask(time.Now(), b.name, [shares]int{})
	for c := range shares {
		ask.back[c] = b.purse.held(c)
		ask.out -= ask.back[c]
	}
	b.purse.drop()
	if len(b.purse.seen) == 0 && b.version == 0 {
		return nil
	}
	_, err := b.exchange(ctx, b.pool, func(s *state, now time.Time) { s.settle(now, ask) })
	return err
}
