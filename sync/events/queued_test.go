package events_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// TestAFlushsJobIsAsRiverInsertsIt holds every column of a job that went into a flush's batch against the same job inserted
// by River alone.
func TestAFlushsJobIsAsRiverInsertsIt(t *testing.T) {
	pool := pgtest.New(t)
	if _, err := newIntake(t, pool, events.Options{}).Add(t.Context(), received(1)); err != nil {
		t.Fatal(err)
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: pgtest.Schemas.Queue, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(received(1).Body)
	if _, err := client.Insert(t.Context(), events.FlushArgs{Event: hex.EncodeToString(digest[:])}, nil); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(t.Context(), `SELECT to_jsonb(j) FROM leadgrid_queue.river_job j ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[json.RawMessage])
	if err != nil || len(texts) != 2 {
		t.Fatalf("%d jobs, %v, want 2", len(texts), err)
	}
	var ours, rivers map[string]any
	if err := json.Unmarshal(texts[0], &ours); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(texts[1], &rivers); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"id", "created_at", "scheduled_at"} { // each job's own
		if ours[own] == nil {
			t.Errorf("no %s", own)
		}
		delete(ours, own)
		delete(rivers, own)
	}
	if !reflect.DeepEqual(ours, rivers) {
		t.Errorf("a flush's job is\n%v, River's own\n%v", ours, rivers)
	}
}
