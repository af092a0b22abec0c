package crash_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// TestPromise13_SweepGoesOnBehindNothingThatWasLost kills Postgres right after a sweep has committed a part of what it reads. Such
// a commit does not wait for the disk, so that the crash takes it back: the sweep that goes on afterwards must be where its rows
// are, and when it says that it is done the mirror must be equal.
func TestPromise13_SweepGoesOnBehindNothingThatWasLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, nil)
	w.sync(t)
	// Others' commits must not bring such a commit to the disk before the crash, however late that comes.
	w.exec(t, `ALTER SYSTEM SET wal_writer_delay = '10s'`)
	w.exec(t, `ALTER SYSTEM SET synchronous_commit = off`)
	w.exec(t, `SELECT pg_reload_conf()`)
	w.Change(func(s *leadgridtest.Settings) {
		s.Faults = leadgridtest.Faults{WebhookDropped: 1, Slow: 1, SlowFor: 400 * time.Millisecond}
	})
	const most = 5
	for n := 1; ; n++ {
		began := time.Now()
		for _, id := range w.DossierIDs() {
			if _, err := w.AddNote(id, fmt.Sprintf("note %d", n), true); err != nil {
				t.Fatal(err)
			}
		}
		w.ask(t)
		w.exec(t, `CHECKPOINT`) // what was asked for stays
		id := w.count(t, `SELECT max(id) FROM sync_sweeps`)
		sweep := fmt.Sprintf(`FROM sync_sweeps WHERE id = %d`, id)
		var came string
		eventually.True(t, "the sweep to commit a part of the notes", func() bool {
			came = w.text(t, `SELECT progress->>'after' `+sweep+` AND progress->>'phase' = 'notes'`)
			return came != "" || w.count(t, `SELECT count(*) `+sweep+` AND state = 'done'`) > 0
		}, w.worker.said.String)
		if err := w.postgres.Kill(); err != nil {
			t.Fatal(err)
		}
		w.worker.kill()
		if err := w.postgres.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		lost := came != "" && w.text(t, `SELECT progress->>'after' `+sweep) < came
		w.letAMinutePass(t)
		w.worker.start(t)
		eventually.True(t, "the sweep to be done", func() bool { return w.count(t, `SELECT count(*) `+sweep+` AND state = 'done'`) > 0 }, w.worker.said.String)
		w.wantEqual(t)
		t.Logf("crash %d: lost %v, at %q; %v", n, lost, came, time.Since(began).Round(time.Second))
		if lost || t.Failed() {
			return
		}
		if n == most {
			t.Fatalf("%d crashes took nothing back: what was to be tested has not come about", most)
		}
	}
}
