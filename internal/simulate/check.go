package simulate

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// watch makes the database itself record every tombstone and every row that was overwritten by an older read, so that no
// instant goes unseen.
func watch(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `
		CREATE TABLE sim_tombstones (kind text, id text, at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE sim_older (kind text, id text, had bigint, got bigint);
		CREATE FUNCTION sim_watch() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF OLD._deleted_at IS NULL AND NEW._deleted_at IS NOT NULL THEN
				INSERT INTO sim_tombstones VALUES (TG_TABLE_NAME, to_jsonb(NEW)->>'id');
			END IF;
			IF NEW._observed < OLD._observed THEN
				INSERT INTO sim_older VALUES (TG_TABLE_NAME, to_jsonb(NEW)->>'id', OLD._observed, NEW._observed);
			END IF;
			RETURN NULL;
		END $$;`)
	if err != nil {
		return fmt.Errorf("set up the watch: %w", err)
	}
	for _, table := range []string{"flows", "stages", "dossiers", "contacts", "dossier_contacts", "notes"} {
		_, err := pool.Exec(ctx, `CREATE TRIGGER sim_watch AFTER UPDATE ON `+table+` FOR EACH ROW EXECUTE FUNCTION sim_watch()`)
		if err != nil {
			return fmt.Errorf("set up the watch: %w", err)
		}
	}
	return nil
}

// checkInstants holds what the database recorded against the truth: ids are never given twice, so that whatever lives at
// the end lived all the time.
func (r *run) checkInstants(ctx context.Context, truth leadgridtest.Snapshot) error {
	rows, err := r.pool.Query(ctx, `SELECT kind, id FROM sim_tombstones WHERE id IS NOT NULL`)
	if err != nil {
		return err
	}
	var kind, id string
	_, err = pgx.ForEachRow(rows, []any{&kind, &id}, func() error {
		if _, lives := truth[kind][id]; lives {
			r.failf("promise 5: %s %s was tombstoned and lives", kind, id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var older int
	if err := r.pool.QueryRow(ctx, `SELECT count(*) FROM sim_older`).Scan(&older); err != nil {
		return err
	}
	if older > 0 {
		r.failf("promise 4: %d rows were overwritten by an older read", older)
	}
	return nil
}

// inFlight is how long a request that was sent before a refusal was answered may still arrive after it.
const inFlight = 250 * time.Millisecond

// checkLimits looks for requests that were sent while LeadGrid had said to wait (promise 8).
func (r *run) checkLimits() {
	var blockedFrom, blockedUntil time.Time
	window := r.server.Settings().Limits.Window
	for _, request := range r.server.Ledger() {
		if request.Status == http.StatusTooManyRequests {
			if request.Time.After(blockedFrom.Add(inFlight)) && request.Time.Before(blockedUntil) {
				r.failf("promise 8: a request %v after a refusal was refused again", request.Time.Sub(blockedFrom))
			}
			if request.Time.After(blockedUntil) {
				blockedFrom = request.Time
				blockedUntil = request.Time.Truncate(window).Add(window)
			}
		}
	}
}
