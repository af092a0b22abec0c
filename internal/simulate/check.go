package simulate

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// wipe empties a database that another seed has used, and, the first time, makes it record by itself every tombstone and
// every row that was overwritten by an older read, so that no instant goes unseen.
func wipe(ctx context.Context, pool *pgxpool.Pool, queueSchema string) error {
	_, err := pool.Exec(ctx, `
		DO $do$
		DECLARE
			kind text;
			filled boolean;
			used text;
		BEGIN
			IF to_regclass('sim_tombstones') IS NULL THEN
				CREATE TABLE sim_migrated AS SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
				WHERE schemaname IN (current_schema, '`+queueSchema+`');
				FOR kind IN SELECT name FROM sim_migrated LOOP
					EXECUTE 'SELECT EXISTS (SELECT FROM ' || kind || ')' INTO filled;
					IF NOT filled THEN
						DELETE FROM sim_migrated WHERE name = kind; -- what is left came with the migrations
					END IF;
				END LOOP;
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
				END $$;
				FOREACH kind IN ARRAY ARRAY['flows', 'stages', 'dossiers', 'contacts', 'dossier_contacts', 'notes'] LOOP
					EXECUTE format('CREATE TRIGGER sim_watch AFTER UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION sim_watch()', kind);
				END LOOP;
				RETURN;
			END IF;
			SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') INTO used FROM pg_tables
			WHERE schemaname IN (current_schema, '`+queueSchema+`') AND tablename <> 'sim_migrated'
			  AND format('%I.%I', schemaname, tablename) NOT IN (SELECT name FROM sim_migrated);
			-- Every connection plans its statements anew after a TRUNCATE, which costs more than to step over some dead rows.
			IF pg_database_size(current_database()) < 50 << 20 THEN
				FOR kind IN SELECT unnest(string_to_array(used, ', ')) LOOP
					EXECUTE 'DELETE FROM ' || kind;
				END LOOP;
			ELSE
				EXECUTE 'TRUNCATE ' || used;
			END IF;
			UPDATE sync_freshness SET complete_as_of = NULL, observation = NULL, sweep = NULL;
			TRUNCATE sync_budget_kept;
			INSERT INTO sync_budget_kept DEFAULT VALUES;
		END $do$`)
	if err != nil {
		return fmt.Errorf("clear the database: %w", err)
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

// checkComplete holds a sweep that is done to what it says: whatever LeadGrid held when it was asked for, and has not
// changed since, is in the mirror (promise 6). Where pages cannot overlap or rows lie anywhere, people who edit all the time
// can hide a row from any number of passes: there only the sync after quiet is sure.
func (r *run) checkComplete(ctx context.Context, s *sweep.Sweep) error {
	before, after := r.before[s.ID], r.server.Snapshot()
	overlapping := r.Habits.PerPage == "clamped" && r.Habits.MaxPerPage == 0 && r.Habits.Order != "unstable"
	if s.State != sweep.Done || !overlapping {
		return nil
	}
	// Not stages: one whose deadline goes from 14 to 8 days and back has not changed as far as this can see.
	tables := []string{"flows", "dossiers", "contacts"}
	if s.Kind == sweep.Full {
		tables = append(tables, "dossier_contacts", "notes")
	}
	same := oracle.Truth{}
	ids := make(map[string]bool)
	for _, table := range tables {
		same[table] = make(map[string]map[string]any)
		for id, row := range before[table] {
			if reflect.DeepEqual(row, after[table][id]) {
				same[table][id], ids[id] = row, true
			}
		}
	}
	// Nor what comes and goes with links, and leaves no trace on the contact when it comes back.
	ignore := append([]string{"contacts.dossier_count", "contacts.pool"}, r.Habits.Omits...)
	differences, err := oracle.Differences(ctx, r.pool, same, oracle.Options{Ignore: ignore, Tables: tables, IDs: ids})
	for _, difference := range differences {
		r.failf("promise 6: a %s sweep was done, and yet: %s", s.Kind, difference)
	}
	return err
}

// inFlight is how long a request that may be sent can be under way to the network, on a machine with much else to do.
const inFlight = 750 * time.Millisecond

// refusals is the engine's way to LeadGrid. It looks for requests that are sent while LeadGrid has said to wait (promise 8).
type refusals struct {
	mu     sync.Mutex
	sent   int
	at     time.Time // of the last refusal
	until  time.Time
	broken []string
}

func (r *refusals) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.sent++
	if now := time.Now(); now.Sub(r.at) > inFlight && now.Before(r.until) {
		r.broken = append(r.broken, fmt.Sprintf("a request was sent %v after a refusal, %v too early", now.Sub(r.at), r.until.Sub(now)))
	}
	r.mu.Unlock()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusTooManyRequests {
		return response, err
	}
	now := time.Now()
	until, err := http.ParseTime(response.Header.Get("Retry-After"))
	if err != nil {
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // the stand-in writes one or the other
		until = now.Add(time.Duration(seconds) * time.Second)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if until.After(r.until) {
		r.at, r.until = now, until
	}
	return response, nil
}

// count is how many requests were sent.
func (r *refusals) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}
