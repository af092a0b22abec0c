package budget

import (
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// A refusal ends for the others no earlier than it does for the replica that met it, however long telling it took: the
// database's clock, looked at on the way, is not thought to be further behind ours than it can be.
func TestPromise8_RefusalIsToldNoEarlierThanItWas(t *testing.T) {
	answered := time.Now() // the server's clock is ours
	got, err := updateState(t.Context(), pgtest.New(t), func(s *state, _ time.Time, ahead time.Duration) bool {
		s.observeAll([]leadgridapi.Observation{{Sent: answered, Answered: answered, Status: 429, RetryAfter: time.Minute}}, ahead)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	end := answered.Add(time.Minute)
	if until := got.state.BlockedUntil; until.Before(end) {
		t.Errorf("the block ends %v too early by the database's clock", end.Sub(until))
	}
	if until := got.state.BlockedUntil.Add(-got.ahead); until.Before(end) {
		t.Errorf("the block ends %v too early by the clock of a replica that reads of it", end.Sub(until))
	}
}
