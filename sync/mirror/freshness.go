package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// CompleteAsOf notes that every change LeadGrid made to a table's objects before the observation began is in the mirror.
// Stages, links and notes are no fresher than the table of their parents: those of a parent nobody knows were not read.
func (m *Mirror) CompleteAsOf(ctx context.Context, tx pgx.Tx, kind mappings.Kind, at Observation, sweep int64) error {
	parents := string(parentOf[kind].kind)
	_, err := tx.Exec(ctx, `
		WITH at AS (
			SELECT $2::timestamptz AS began, $3::bigint AS number WHERE $5 = ''
			UNION ALL
			SELECT least($2, p.complete_as_of), least($3, p.observation) FROM sync_freshness p
			WHERE p.table_name = $5 AND p.complete_as_of IS NOT NULL
		)
		UPDATE sync_freshness f SET complete_as_of = at.began, observation = at.number, sweep = $4
		FROM at WHERE f.table_name = $1 AND coalesce(f.complete_as_of, '-infinity') < at.began`,
		kind, at.BeganAt, at.Number, sweep, parents)
	if err != nil {
		return fmt.Errorf("note that %s are complete: %w", kind, err)
	}
	return nil
}

// CompleteSinceOldestRead does the same for links and notes that are read dossier by dossier, in rotation: they are
// complete as of the dossier that has not been read for longest.
func (m *Mirror) CompleteSinceOldestRead(ctx context.Context, tx pgx.Tx, kind mappings.Kind, sweep int64) error {
	var oldest *time.Time
	var number *int64
	var unread bool
	err := tx.QueryRow(ctx, `
		SELECT min(r.began_at), min(r.observation), coalesce(bool_or(r.id IS NULL), false)
		FROM dossiers d LEFT JOIN sync_last_reads r ON r.kind = $1 AND r.id = d.id
		WHERE d._deleted_at IS NULL`, LedgerKind(kind)).Scan(&oldest, &number, &unread)
	if err != nil {
		return fmt.Errorf("look for the oldest read of %s: %w", kind, err)
	}
	if unread || oldest == nil || number == nil {
		return nil
	}
	return m.CompleteAsOf(ctx, tx, kind, Observation{Number: *number, BeganAt: *oldest}, sweep)
}

// longestRead bounds how long a read can take from its number to its being applied: what the ledger keeps of pages is
// needed no longer than that.
const longestRead = time.Hour

// Prune forgets pages that no read still under way and no sweep needs.
func (m *Mirror) Prune(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		DELETE FROM sync_pages p
		WHERE p.finished_at < now() - $1::interval
		  AND NOT EXISTS (SELECT FROM sync_sweeps s WHERE s.id = p.sweep AND s.state IN ('queued', 'running'))`, longestRead)
	if err != nil {
		return fmt.Errorf("prune pages: %w", err)
	}
	return nil
}
