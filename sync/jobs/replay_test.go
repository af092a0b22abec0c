package jobs_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
)

// TestReplayReadsAgain damages a row in a way no read since could notice, and lets a replay heal it, once with the flush
// known and once after retention has forgotten it.
func TestReplayReadsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{}, jobs.Config{})
	w.Seed(leadgridtest.Size{Dossiers: 5, Contacts: 5, Links: 3, Notes: 5})
	w.sync(t)
	client, err := river.NewClient(riverpgxv5.New(w.pool), &river.Config{Schema: pgtest.Schemas.Queue, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	intake := events.NewIntake(w.pool, client, events.Options{})
	defer intake.Close()
	id := w.DossierIDs()[0]
	body := `{"id":"evt_1","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":"` + id + `"}}`
	if _, err := intake.Add(t.Context(), events.Received{Body: []byte(body), At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	processed := func() bool { return count(t, w.pool, `SELECT count(*) FROM sync_flushes WHERE done_at IS NULL`) == 0 }
	eventually.True(t, "the event to be processed", processed)

	for _, damage := range []string{
		`UPDATE dossiers SET name = 'somebody else', _hash = 0`,
		`WITH f AS (DELETE FROM sync_flushes) UPDATE dossiers SET name = 'somebody else', _hash = 0`,
	} {
		if _, err := w.pool.Exec(t.Context(), damage+` WHERE id = $1`, id); err != nil {
			t.Fatal(err)
		}
		for eventType, want := range map[string]int{"note.created": 0, "dossier.updated": 1} {
			err := pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
				replayed, err := events.Replay(t.Context(), tx, client, time.Now().Add(-time.Hour), eventType)
				if replayed.Flushes != want {
					t.Errorf("a replay of %s took %d flushes, want %d", eventType, replayed.Flushes, want)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		eventually.True(t, "the replay to be processed", processed)
		w.wantEqual(t, oracle.Options{})
	}
}
