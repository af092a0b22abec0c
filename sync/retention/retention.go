// Package retention forgets what has been kept long enough: the bodies of stored webhooks, the contents of finished write-back
// commands, old versions of rows, and bookkeeping that nothing needs any more.
package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Limits says how long each kind of data is kept. Zero keeps it for good.
type Limits struct {
	Events   time.Duration // payloads and bodies of webhooks; ids, types, times and hashes stay
	Commands time.Duration // arguments and results of finished commands; their states and ids stay
	History  time.Duration // versions of rows that are no longer the last
	Sweeps   time.Duration // bookkeeping of sweeps, and of rows deleted since
}

// Report counts what was forgotten.
type Report struct {
	Events   int64
	Commands int64
	History  int64
	Sweeps   int64
	Reads    int64
}

// atOnce is how many flushes, or versions, one statement handles, so that nothing waits long for its locks.
const atOnce = 500

// Apply forgets everything that is due. It may run any number of times, also concurrently.
func Apply(ctx context.Context, pool *pgxpool.Pool, limits Limits) (report Report, err error) {
	if limits.Events > 0 {
		if report.Events, err = forgetEvents(ctx, pool, limits.Events); err != nil {
			return report, fmt.Errorf("forget events: %w", err)
		}
	}
	if limits.History > 0 {
		if report.History, err = forgetVersions(ctx, pool, limits.History); err != nil {
			return report, fmt.Errorf("forget versions: %w", err)
		}
	}
	for _, step := range []struct {
		what  string
		limit time.Duration
		count *int64
		sql   string
	}{
		{"commands", limits.Commands, &report.Commands, `
			UPDATE commands SET arguments = '{}', expected = NULL, result = NULL, evidence = NULL, cv_filename = NULL, cv_sha256 = NULL,
			       error = CASE WHEN error IS NOT NULL THEN 'forgotten' END
			WHERE state IN ('done', 'refused') AND confirms = 0 AND finished_at < now() - $1::interval
			  AND (arguments <> '{}' OR num_nonnulls(expected, result, evidence, cv_filename, cv_sha256) > 0 OR error <> 'forgotten')`},
		// The last sweep of each kind and state stays: the schedule depends on it.
		{"sweeps", limits.Sweeps, &report.Sweeps, `
			DELETE FROM sync_sweeps WHERE finished_at < now() - $1::interval
			AND id NOT IN (SELECT max(id) FROM sync_sweeps GROUP BY kind, state)`},
		{"reads of what is gone", limits.Sweeps, &report.Reads, `
			DELETE FROM sync_reads r
			WHERE r.began_at < now() - $1::interval AND NOT EXISTS (
				SELECT FROM dossiers WHERE id = r.id AND _deleted_at IS NULL AND r.kind IN ('dossiers', 'complete notes', 'complete dossier_contacts')
				UNION ALL SELECT FROM contacts WHERE id = r.id AND _deleted_at IS NULL AND r.kind = 'contacts'
				UNION ALL SELECT FROM flows WHERE id = r.id AND _deleted_at IS NULL AND r.kind IN ('flows', 'complete stages'))`},
	} {
		if step.limit <= 0 {
			continue
		}
		tag, err := pool.Exec(ctx, step.sql, step.limit)
		if err != nil {
			return report, fmt.Errorf("forget %s: %w", step.what, err)
		}
		*step.count = tag.RowsAffected()
	}
	return report, nil
}

// forgetEvents goes flush by flush. It also forgets the flush itself, unless that is still to be processed, so that the next
// run need not look at its events again.
func forgetEvents(ctx context.Context, pool *pgxpool.Pool, limit time.Duration) (total int64, err error) {
	for after := int64(0); ; {
		var flushes []int64
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT flush FROM sync_flushes WHERE received_at < now() - $1::interval AND flush > $2 ORDER BY flush LIMIT $3`,
				limit, after, atOnce)
			if err != nil {
				return err
			}
			if flushes, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil || len(flushes) == 0 {
				return err
			}
			tag, err := tx.Exec(ctx, `
				UPDATE webhook_events SET payload = NULL, body = NULL
				WHERE flush = ANY ($1) AND (payload IS NOT NULL OR body IS NOT NULL)`, flushes)
			if err != nil {
				return err
			}
			total += tag.RowsAffected()
			_, err = tx.Exec(ctx, `DELETE FROM sync_flushes WHERE flush = ANY ($1) AND done_at IS NOT NULL`, flushes)
			return err
		})
		if err != nil || len(flushes) == 0 {
			return total, err
		}
		after = flushes[len(flushes)-1]
	}
}

func forgetVersions(ctx context.Context, pool *pgxpool.Pool, limit time.Duration) (total int64, err error) {
	for _, kind := range mappings.Kinds {
		for {
			tag, err := pool.Exec(ctx, `
				WITH due AS (SELECT ctid FROM `+string(kind)+`_history WHERE valid_to < now() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED)
				DELETE FROM `+string(kind)+`_history WHERE ctid IN (SELECT ctid FROM due)`, limit, atOnce)
			if err != nil {
				return total, err
			}
			total += tag.RowsAffected()
			if tag.RowsAffected() == 0 {
				break
			}
		}
	}
	return total, nil
}
