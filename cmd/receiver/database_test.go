package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
)

// TestEventsAreFoundByKeyHoweverFewTheyAre: the plan made now is the one kept when they are many.
func TestEventsAreFoundByKeyHoweverFewTheyAre(t *testing.T) {
	pool, err := openPool(t.Context(), testConfig(pgtest.URL(t)).Database)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), `VACUUM ANALYZE webhook_events`); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(t.Context(), `EXPLAIN SELECT FROM webhook_events WHERE digest = ANY (ARRAY[sha256('a'), sha256('b')])`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if text := strings.Join(plan, "\n"); err != nil || !strings.Contains(text, "webhook_events_pkey") {
		t.Errorf("the plan, %v:\n%s", err, text)
	}
}
