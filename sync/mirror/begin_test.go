package mirror

import (
	"context"
	"testing"
	"time"
)

func TestWhoeverAsksFirstMayGiveUp(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var all beginnings
	begun := <-all.ask(cancelled, 0, func(ctx context.Context, n int) ([]beginning, error) {
		return make([]beginning, n), ctx.Err()
	})
	if begun.err != nil {
		t.Errorf("those who wait with one who gave up get %v", begun.err)
	}
}

func TestPromise4_OneOfManyTakesNoObservationFromBeforeAMomentAgo(t *testing.T) {
	var all beginnings
	next := int64(0)
	take := func(_ context.Context, n int) (taken []beginning, err error) {
		for range n {
			next++
			taken = append(taken, beginning{Observation: Observation{Number: next}})
		}
		return taken, nil
	}
	if begun := <-all.ask(t.Context(), 2, take); begun.Number != 1 {
		t.Errorf("the first of many is observation %d", begun.Number)
	}
	now := time.Now()
	if spare, ok := all.takeSpare(now); !ok || spare.Number != 2 {
		t.Errorf("the second of many is observation %d, %t", spare.Number, ok)
	}
	if begun := <-all.ask(t.Context(), 0, take); begun.Number != 4 {
		t.Errorf("one of its own is observation %d: it must be later than all that were taken before", begun.Number)
	}
	if spare, ok := all.takeSpare(now.Add(time.Minute)); ok {
		t.Errorf("observation %d is given a minute after it was taken", spare.Number)
	}
}
