package mirror

import (
	"context"
	"testing"
)

func TestWhoeverAsksFirstMayGiveUp(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var all beginnings
	begun := <-all.ask(cancelled, func(ctx context.Context, n int) ([]beginning, error) {
		return make([]beginning, n), ctx.Err()
	})
	if begun.err != nil {
		t.Errorf("those who wait with one who gave up get %v", begun.err)
	}
}
