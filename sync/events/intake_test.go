package events_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

func TestAddStoresTheEventItsFlushAndOneJob(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{})
	at := time.Date(2026, 5, 1, 10, 0, 3, 0, time.UTC)
	body := `{"id":"evt_1","type":"dossier.stage_changed","created_at":"2026-05-01T12:00:00+02:00",` +
		`"data":{"id":"dos_1","current_stage_id":"stg_2","name":"Jan"}}`

	before := observation(t, pool)
	got, err := intake.Add(t.Context(), events.Received{Body: []byte(body), At: at})
	after := observation(t, pool)
	if want := (events.Stored{ID: "evt_1", Type: "dossier.stage_changed"}); err != nil || got != want {
		t.Fatalf("Add = %+v, %v, want %+v", got, err, want)
	}

	var row struct {
		ID, Type, DossierID, StageID string
		CreatedAt, ReceivedAt        time.Time
		Same, Bare                   bool
		Flush                        int64
	}
	err = pool.QueryRow(t.Context(), `
		SELECT id, type, dossier_id, stage_id, created_at, received_at, payload = $1::text::jsonb AND digest = sha256(convert_to($1::text, 'UTF8')),
		       body IS NULL AND odd IS NULL, flush
		FROM webhook_events`, body).Scan(&row.ID, &row.Type, &row.DossierID, &row.StageID, &row.CreatedAt, &row.ReceivedAt,
		&row.Same, &row.Bare, &row.Flush)
	if err != nil {
		t.Fatal(err)
	}
	if row.ID != "evt_1" || row.Type != "dossier.stage_changed" || row.DossierID != "dos_1" || row.StageID != "stg_2" ||
		!row.CreatedAt.Equal(at.Add(-3*time.Second)) || !row.ReceivedAt.Equal(at) || !row.Same || !row.Bare {
		t.Errorf("stored %+v", row)
	}
	// Whatever reads LeadGrid from now on takes a higher number, and so counts as having seen the event.
	if row.Flush <= before || row.Flush >= after {
		t.Errorf("flush %d, want it between the observations %d and %d around it", row.Flush, before, after)
	}
	if got := flushes(t, pool); len(got) != 1 || got[row.Flush] != 1 {
		t.Errorf("flushes (number: events) = %v, want %d: 1", got, row.Flush)
	}
	if got := jobs(t, pool); len(got) != 1 || got[0] != row.Flush {
		t.Errorf("jobs for flushes %v, want one for %d", got, row.Flush)
	}
}

func TestAddKeepsOddEventsAsBytes(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{})
	for _, body := range []string{"", "null", "\x1f\x8b\x08", `{"id":7}`, "{\"id\":\"evt_1\",\"data\":\"\\u0000\"}"} {
		got, err := intake.Add(t.Context(), events.Received{Body: []byte(body), At: time.Now()})
		if err != nil || got.Odd == "" || !strings.HasPrefix(got.ID, "sha256:") {
			t.Errorf("Add(%q) = %+v, %v, want it odd, with its hash as id", body, got, err)
		}
		var kept []byte
		var odd string
		err = pool.QueryRow(t.Context(), `SELECT body, odd FROM webhook_events WHERE id = $1 AND payload IS NULL`, got.ID).Scan(&kept, &odd)
		if err != nil || string(kept) != body || odd != got.Odd {
			t.Errorf("%q is kept as %q, %q, %v", body, kept, odd, err)
		}
	}
}

// What cannot be relied on is kept as bytes, and yet names the dossier to read.
func TestPromise7_OddEventsAreFollowed(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{})
	for _, body := range []string{
		`{"id":"evt_1","type":"dossier.updated","data":{"id":"d_1","custom":{"Budget":1,"budget":2}}}`,
		`{"id":"evt_2","type":"dossier.updated","data":{"id":"d_1","name":"\u0000","k":1,"k":2}}`,
		`{"id":3,"type":"dossier.updated","data":{"id":"d_1"}}`,
		`{"id":"evt_5","type":"dossier.updated","data":{"id":"d_1"}} and more`,
		"{\"id\":\"evt_4\",\"type\":\"dossier.updated\",\"data\":{\"id\":\"d_1\",\"name\":\"\xff\"}}",
	} {
		got, err := intake.Add(t.Context(), events.Received{Body: []byte(body), At: time.Now()})
		if err != nil || got.Odd == "" {
			t.Fatalf("Add(%q) = %+v, %v, want it odd", body, got, err)
		}
		var dossier string
		err = pool.QueryRow(t.Context(), `SELECT dossier_id FROM webhook_events WHERE id = $1 AND type = 'dossier.updated'`, got.ID).Scan(&dossier)
		if err != nil || dossier != "d_1" {
			t.Errorf("%q names %q, %v", body, dossier, err)
		}
	}
}

func TestPromise1_NoAckWithoutCommit(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{})
	// Everything before COMMIT works, and COMMIT does not.
	exec(t, pool, `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no commit' USING ERRCODE = 'P0001'; END $$;
		CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON webhook_events DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION refuse()`)
	if got, err := intake.Add(t.Context(), received(1)); err == nil {
		t.Fatalf("Add = %+v although COMMIT failed", got)
	}
	exec(t, pool, `DROP TRIGGER refuse ON webhook_events`)
	if n := count(t, pool); n != 0 {
		t.Fatalf("%d events after a failed COMMIT", n)
	}
	if got, err := intake.Add(t.Context(), received(1)); err != nil || got.Duplicate {
		t.Errorf("Add again = %+v, %v, want it stored", got, err)
	}
}

// storedBeside is a transaction that has stored an event and not ended.
func storedBeside(t *testing.T, pool *pgxpool.Pool, event events.Received) pgx.Tx {
	t.Helper()
	other, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := other.Exec(t.Context(), `INSERT INTO webhook_events (digest, id, flush) VALUES (sha256($1), 'evt_1', 0)`, event.Body); err != nil {
		t.Fatal(err)
	}
	return other
}

func TestPromise1_NoAckForADuplicateOfAnUncommittedEvent(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Patience: time.Minute})
	event := received(1)
	other := storedBeside(t, pool, event)
	stored := add(t, intake, event)
	waitForLock(t, pool)
	select {
	case got := <-stored:
		t.Fatalf("Add = %+v while the other copy was not committed", got)
	default:
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-stored; got.err != nil || got.Duplicate {
		t.Errorf("Add = %+v after the other copy was rolled back, want it stored", got)
	}
}

func TestAnEventStoredBesideIsADuplicate(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Patience: 1}) // too little for a second attempt
	event := received(1)
	other := storedBeside(t, pool, event)
	stored := add(t, intake, event)
	waitForLock(t, pool)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-stored; got.err != nil || !got.Duplicate {
		t.Errorf("Add = %+v after the other copy was committed, want a duplicate", got)
	}
	if flushes, jobs := flushes(t, pool), jobs(t, pool); len(flushes) != 0 || len(jobs) != 0 {
		t.Errorf("%d flushes and %d jobs for nothing new", len(flushes), len(jobs))
	}
}

func TestEventsThatWaitShareATransaction(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Flushers: 1, MaxEvents: 50, Patience: time.Minute})
	release := hold(t, pool)
	first := add(t, intake, received(0))
	waitForLock(t, pool) // it is on its way alone; all others gather behind it
	var others []<-chan outcome
	for i := range 120 {
		others = append(others, add(t, intake, received(1+i%60))) // each twice
	}
	eventually.True(t, "events to wait", func() bool { return intake.Waiting() == 120 })
	release()
	if got := <-first; got.err != nil {
		t.Fatal(got.err)
	}
	duplicates := 0
	for _, other := range others {
		got := <-other
		if got.err != nil {
			t.Fatal(got.err)
		}
		if got.Duplicate {
			duplicates++
		}
	}
	if duplicates != 60 || count(t, pool) != 61 {
		t.Errorf("%d duplicates and %d rows, want 60 and 61", duplicates, count(t, pool))
	}
	got, total := flushes(t, pool), 0
	for _, events := range got {
		total += events
	}
	if len(got) < 2 || len(got) > 4 || total != 61 {
		t.Errorf("flushes %v, want one for the first and at most three of at most 50 for the others", got)
	}
	if jobs := jobs(t, pool); len(jobs) != len(got) {
		t.Errorf("%d jobs for %d flushes", len(jobs), len(got))
	}
}

func TestASecondTransactionBeginsBesideTheFirstOnlyForMany(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Beside: 8, Patience: time.Minute})
	release := hold(t, pool)
	all := []<-chan outcome{add(t, intake, received(0))}
	waitForLock(t, pool)
	for i := range 7 {
		all = append(all, add(t, intake, received(1+i)))
	}
	eventually.True(t, "events to wait", func() bool { return intake.Waiting() == 7 }) // a second one would have taken the first of them
	all = append(all, add(t, intake, received(8)))
	eventually.True(t, "the transaction", func() bool { return intake.Waiting() == 0 })
	release()
	for _, one := range all {
		if got := <-one; got.err != nil {
			t.Error(got.err)
		}
	}
	if got := flushes(t, pool); len(got) != 2 {
		t.Errorf("flushes %v, want the first and the one beside it", got)
	}
}

func TestNothingNewMakesNeitherFlushNorJob(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{})
	var numbers []int64
	for i := range 3 {
		got, err := intake.Add(t.Context(), received(1))
		if err != nil || got.Duplicate != (i > 0) {
			t.Fatalf("Add %d = %+v, %v", i, got, err)
		}
		var n int64
		if err := pool.QueryRow(t.Context(), `SELECT last_value FROM observations`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	if numbers[2] != numbers[0] { // which would be a write
		t.Errorf("duplicates took numbers: %v", numbers)
	}
	if flushes, jobs := flushes(t, pool), jobs(t, pool); len(flushes) != 1 || len(jobs) != 1 {
		t.Errorf("%d flushes and %d jobs, want one each", len(flushes), len(jobs))
	}
}

func TestARefusedValueHarmsNoOtherEvent(t *testing.T) {
	pool := pgtest.New(t)
	exec(t, pool, `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.payload ->> 'id' IN ('evt_3', 'evt_7') THEN RAISE 'bad value' USING ERRCODE = '22P05'; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION refuse()`)
	intake := newIntake(t, pool, events.Options{Flushers: 1, Patience: time.Minute})
	release := hold(t, pool)
	first := add(t, intake, received(0))
	waitForLock(t, pool)
	var all []<-chan outcome
	for i := range 10 {
		all = append(all, add(t, intake, received(i)))
	}
	eventually.True(t, "events to wait", func() bool { return intake.Waiting() == 10 })
	release()
	<-first
	for i, one := range all {
		got := <-one
		if bad := i == 3 || i == 7; got.err != nil || (got.Odd != "") != bad || got.Duplicate != (i == 0) {
			t.Errorf("event %d: %+v", i, got)
		}
	}
	if n := count(t, pool); n != 10 {
		t.Errorf("%d rows, want 10", n)
	}
	var kept int
	err := pool.QueryRow(t.Context(), `SELECT count(*) FROM webhook_events
		WHERE payload IS NULL AND digest = sha256(body) AND odd LIKE '%22P05%'`).Scan(&kept)
	if err != nil || kept != 2 {
		t.Errorf("%d events kept as bytes, %v, want 2", kept, err)
	}
}

func TestIntakesWithTheSameEventsDoNotDeadlock(t *testing.T) {
	pool := pgtest.New(t)
	var group errgroup.Group
	for range 4 {
		intake := newIntake(t, pool, events.Options{Patience: 1}) // too little for a second attempt
		for i := range 200 {
			group.Go(func() error {
				_, err := intake.Add(t.Context(), received(i))
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := count(t, pool); n != 200 {
		t.Errorf("%d rows, want 200", n)
	}
}

func TestFullIntakeRefuses(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Flushers: 1, Waiting: 2, Patience: time.Minute})
	release := hold(t, pool)
	taken := []<-chan outcome{add(t, intake, received(0))}
	waitForLock(t, pool)
	for i := range 2 {
		taken = append(taken, add(t, intake, received(1+i)))
	}
	eventually.True(t, "events to wait", func() bool { return intake.Waiting() == 2 })
	if _, err := intake.Add(t.Context(), received(3)); !errors.Is(err, events.ErrBusy) {
		t.Errorf("Add to a full intake = %v, want ErrBusy", err)
	}
	release()
	for _, one := range taken {
		if got := <-one; got.err != nil {
			t.Error(got.err)
		}
	}
}

func TestWhoeverLeavesGetsNoAnswerButIsStored(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Patience: time.Minute})
	release := hold(t, pool)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := intake.Add(ctx, received(1))
		left <- err
	}()
	waitForLock(t, pool)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("Add = %v, want context.Canceled", err)
	}
	release()
	eventually.True(t, "the commit", func() bool { return count(t, pool) == 1 })
}

func TestCloseStoresWhatWasTaken(t *testing.T) {
	pool := pgtest.New(t)
	intake := newIntake(t, pool, events.Options{Flushers: 1, Patience: time.Minute})
	release := hold(t, pool)
	taken := []<-chan outcome{add(t, intake, received(0))}
	waitForLock(t, pool)
	for i := range 20 {
		taken = append(taken, add(t, intake, received(1+i)))
	}
	eventually.True(t, "events to wait", func() bool { return intake.Waiting() == 20 })
	var closing sync.WaitGroup
	closing.Go(intake.Close)
	gone, leave := context.WithCancel(t.Context())
	leave()
	eventually.True(t, "the intake to close", func() bool {
		_, err := intake.Add(gone, received(0))
		return errors.Is(err, events.ErrClosed)
	})
	release()
	closing.Wait()
	for _, one := range taken {
		select {
		case got := <-one:
			if got.err != nil {
				t.Error(got.err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("an event is still waiting")
		}
	}
}

func newIntake(t *testing.T, pool *pgxpool.Pool, options events.Options) *events.Intake {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: pgtest.Schemas.Queue, FetchCooldown: river.FetchCooldownMin, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	intake := events.NewIntake(pool, client, options)
	t.Cleanup(intake.Close)
	return intake
}

func received(n int) events.Received {
	return events.Received{At: time.Now(), Body: fmt.Appendf(nil,
		`{"id":"evt_%d","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":"dos_%d"}}`, n, n)}
}

type outcome struct {
	events.Stored
	err error
}

// add calls Add beside the test.
func add(t *testing.T, intake *events.Intake, event events.Received) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		stored, err := intake.Add(t.Context(), event)
		done <- outcome{stored, err}
	}()
	return done
}

// hold keeps every transaction that stores an event waiting until it is released.
func hold(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE webhook_events IN EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { tx.Rollback(context.WithoutCancel(t.Context())) })
	t.Cleanup(release)
	return release
}

// waitForLock returns once somebody waits for a lock in this database.
func waitForLock(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	eventually.True(t, "the event to wait for the lock", func() bool {
		var waiting bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		return waiting
	})
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func observation(t *testing.T, pool *pgxpool.Pool) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT nextval('observations')`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func count(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM webhook_events`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// flushes are the numbers of all flushes with how many events each says it stored.
func flushes(t *testing.T, pool *pgxpool.Pool) map[int64]int {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT flush, events FROM sync_flushes`)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int64]int{}
	var flush int64
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&flush, &n}, func() error { all[flush] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// jobs are the flushes that River has a job for.
func jobs(t *testing.T, pool *pgxpool.Pool) []int64 {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT flush FROM leadgrid_queue.river_job JOIN webhook_events ON digest = decode(args ->> 'event', 'hex')
		WHERE kind = 'leadgrid_events' AND queue = 'events' AND state = 'available'`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	return all
}
