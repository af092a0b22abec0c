package sweep

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// Links and notes cost a request per dossier each, nearly all requests of a full sweep. Scheduled sweeps read them for dossiers
// that probably changed, and for as many others, longest unread first, as it takes to get round all of them in the rotation.

// readChosen reads the links or notes of one chunk of the dossiers that a scheduled sweep chooses.
func (w *Sweeper) readChosen(ctx context.Context, s *Sweep, kind mappings.Kind, read reader) (over bool, err error) {
	if s.Progress.Total == 0 {
		if err := w.allot(ctx, s); err != nil {
			return false, err
		}
	}
	chosen, err := w.choose(ctx, s, kind)
	if err != nil || len(chosen) == 0 {
		return err == nil, err
	}
	ids := make([]string, len(chosen))
	endOnly := make(map[string]bool)
	for i, dossier := range chosen {
		ids[i] = dossier.ID
		endOnly[dossier.ID] = dossier.Known && kind == mappings.Notes
	}
	err = w.read(ctx, s, kind, ids, func(ctx context.Context, id string, steps ...observe.Step) (observe.Result, error) {
		if endOnly[id] {
			return w.observer.NewNotes(ctx, id, steps...)
		}
		return read(ctx, id, steps...)
	})
	if err != nil {
		return false, err
	}
	s.Progress.Done += len(ids)
	return false, w.mirror.InTx(ctx, func(tx pgx.Tx) error { return w.save(ctx, tx, s) })
}

// allot computes how many dossiers this sweep must read for the rotation, from the time since the last sweep began: sweeps take
// time too, and the worker may have been down.
func (w *Sweeper) allot(ctx context.Context, s *Sweep) error {
	var live int
	var gap time.Duration
	err := w.pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM dossiers WHERE _deleted_at IS NULL),
		       (SELECT coalesce($2::timestamptz - max(started_at), '0') FROM sync_sweeps WHERE id < $1 AND state = 'done')`,
		s.ID, s.Progress.Began.BeganAt).Scan(&live, &gap)
	if err != nil {
		return fmt.Errorf("count dossiers: %w", err)
	}
	share := float64(max(gap, w.options.Interval)) / float64(w.options.Rotation)
	s.Progress.Left = int(float64(live)*min(share, 1)) + 1
	s.Progress.Total = live
	return nil
}

// chosen is a dossier whose links or notes a scheduled sweep reads.
type chosen struct {
	ID string
	// Hot says that it probably changed; such dossiers do not count for the rotation.
	Hot bool
	// Known says that its whole list was read within the rotation, so that reading additions is enough for now.
	Known bool
}

// choose picks the next chunk. A dossier is hot if it changed lately (and after the backfill, when all rows were new). For links,
// it is also hot if a contact's dossier_count differs from the mirror's links and the contact changed after the dossier's
// links were read: if the numbers still differ after that, LeadGrid counts differently.
func (w *Sweeper) choose(ctx context.Context, s *Sweep, kind mappings.Kind) ([]chosen, error) {
	rows, err := w.pool.Query(ctx, `
		WITH odd AS (
			SELECT c.id, lower(c.email) AS email, c._changed_at
			FROM contacts c LEFT JOIN dossier_contacts k ON k.contact_id = c.id AND k._deleted_at IS NULL
			WHERE $1 = 'complete dossier_contacts' AND c._deleted_at IS NULL AND c.dossier_count IS NOT NULL
			GROUP BY c.id HAVING c.dossier_count <> count(k.dossier_id)
		), disagree AS (
			SELECT id, max(changed) AS changed FROM (
				SELECT k.dossier_id AS id, odd._changed_at AS changed FROM odd JOIN dossier_contacts k ON k.contact_id = odd.id
				UNION ALL
				SELECT d.id, odd._changed_at FROM odd JOIN dossiers d ON d.contact_id = odd.id
				UNION ALL
				SELECT d.id, odd._changed_at FROM odd JOIN dossiers d ON lower(d.email) = odd.email
			) of GROUP BY id
		)
		SELECT d.id,
		       coalesce(d._changed_at > greatest(now() - $3::interval, backfill.ended)
		             OR disagree.changed > all_of_it.began_at, false) AS hot,
		       coalesce(all_of_it.began_at > now() - $4::interval, false) AS known
		FROM dossiers d
		CROSS JOIN (SELECT min(finished_at) AS ended FROM sync_sweeps WHERE kind = 'full' AND state = 'done') backfill
		LEFT JOIN sync_last_reads all_of_it ON all_of_it.kind = $1 AND all_of_it.id = d.id
		LEFT JOIN sync_reads its_end ON its_end.kind = $5 AND its_end.id = d.id AND $1 = 'complete notes'
		LEFT JOIN sync_reads missing ON missing.kind = $7 AND missing.id = d.id
		LEFT JOIN disagree ON disagree.id = d.id
		WHERE d._deleted_at IS NULL AND greatest(all_of_it.observation, its_end.observation, missing.observation, 0) < $2
		ORDER BY hot DESC, all_of_it.observation NULLS FIRST, d.id LIMIT $6`,
		mirror.LedgerKind(kind), s.Progress.Began.Number, w.options.Hot, w.options.Rotation, mirror.LedgerTail, chunk,
		mirror.LedgerMissing(kind))
	if err != nil {
		return nil, fmt.Errorf("choose dossiers: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[chosen])
	if err != nil {
		return nil, fmt.Errorf("choose dossiers: %w", err)
	}
	return slices.DeleteFunc(all, func(dossier chosen) bool {
		switch {
		case slices.Contains(s.Progress.Failed, failedRead(kind, dossier.ID)):
			return true
		case dossier.Hot:
			return false
		case s.Progress.Left == 0:
			return true
		}
		s.Progress.Left--
		return false
	}), nil
}
