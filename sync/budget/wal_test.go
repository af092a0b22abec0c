package budget

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
)

// Bookkeeping stays small: at a request a second each costs one update of one row, and that little log.
func TestStoringLogsLittle(t *testing.T) {
	w := newWorld(1, &fixed{limit: 60, window: time.Minute}, 60, true, 3)
	sweep(w)
	w.run(15 * time.Minute)
	// A server of its own: what it logs is counted, and others write to the one that tests share.
	pool := pgtest.Own(t, postgres.Options{})
	var from, to int64
	position := `SELECT pg_current_wal_insert_lsn() - '0/0'`
	size := 0
	states := make([]state, 0, 200)
	for range 200 {
		w.run(time.Second)
		b, err := json.Marshal(&w.state)
		if err != nil {
			t.Fatal(err)
		}
		size = len(b)
		var s state
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		states = append(states, s)
	}
	for i, s := range states {
		if i == 10 { // past the row's first full-page image
			if err := pool.QueryRow(t.Context(), position).Scan(&from); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := updateState(t.Context(), pool, func(state *state, _ time.Time, _ time.Duration) bool {
			s.Kept = state.Kept
			*state = s
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := pool.QueryRow(t.Context(), position).Scan(&to); err != nil {
		t.Fatal(err)
	}
	each := float64(to-from) / float64(len(states)-10)
	t.Logf("a state of %d bytes logs %.0f bytes", size, each)
	if each > 200 {
		t.Errorf("an update logs %.0f bytes", each)
	}
}
