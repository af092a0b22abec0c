package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Why a row is in doubt. A sighting that began after the doubt arose takes it away.
const (
	reasonOlder  = "older"  // shown with an older updated_at than known
	reasonAbsent = "absent" // not seen by a complete read
	reasonGone   = "gone"   // and then a GET said 404
)

// Doubt is a row about which LeadGrid must be asked again.
type Doubt struct {
	Kind   mappings.Kind
	ID     string
	Parent string // the dossier of a link or note, the flow of a stage
	// Gone says that a GET has said 404 since a complete sweep did not see the row.
	Gone bool
	// Absent says that a complete read did not see the row; otherwise it was shown older than it is known.
	Absent bool
	// AskAt is when an answer can settle it: no replica that lags can then still hide or show what was before.
	AskAt time.Time
	// Observation is the read that raised the doubt.
	Observation int64
}

// String names the doubt, in ids.
func (d Doubt) String() string {
	return fmt.Sprintf("%s %q of %q (gone %t, absent %t)", d.Kind, d.ID, d.Parent, d.Gone, d.Absent)
}

type doubtRow struct {
	Kind        mappings.Kind
	ID          string
	Parent      string
	reason      string
	observation int64
	since       time.Time
}

func queueDoubt(batch *pgx.Batch, d doubtRow) {
	batch.Queue(`
		INSERT INTO sync_doubts (kind, id, parent, reason, observation, since) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (kind, parent, id) DO UPDATE
		SET reason = excluded.reason, observation = excluded.observation, since = excluded.since, held = false`,
		d.Kind, d.ID, d.Parent, d.reason, d.observation, d.since)
}

// Doubts lists up to limit rows of the kind in doubt, those that can be settled first.
func (m *Mirror) Doubts(ctx context.Context, kind mappings.Kind, limit int) ([]Doubt, error) {
	t := m.tables[kind]
	join := `t.` + quote(t.idColumn()) + ` = d.id`
	if kind == mappings.Links {
		join += ` AND t.dossier_id = d.parent`
	}
	parent := `''`
	if of, ok := parentOf[kind]; ok {
		parent = `coalesce(t.` + quote(of.column) + `, d.parent)`
	}
	// A row that went with its parent is in doubt no more.
	_, err := m.pool.Exec(ctx, `
		DELETE FROM sync_doubts d
		WHERE d.kind = $1 AND NOT EXISTS (SELECT FROM `+t.name+` t WHERE `+join+` AND t._deleted_at IS NULL)`, kind)
	if err != nil {
		return nil, fmt.Errorf("forget settled doubts: %w", err)
	}
	rows, err := m.pool.Query(ctx, `
		SELECT d.kind, d.id, `+parent+`, d.reason = 'gone', d.reason <> 'older',
		       CASE d.reason WHEN 'older' THEN d.since + 2 * $2::interval ELSE t._changed_at + $2::interval END AS ask_at,
		       d.observation
		FROM sync_doubts d JOIN `+t.name+` t ON `+join+`
		WHERE d.kind = $1
		ORDER BY ask_at, d.id LIMIT $3`, kind, m.lag, limit)
	if err != nil {
		return nil, fmt.Errorf("list doubts: %w", err)
	}
	doubts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Doubt])
	if err != nil {
		return nil, fmt.Errorf("list doubts: %w", err)
	}
	return doubts, nil
}

// Orphan takes back doubts about a parent's links, notes or stages when LeadGrid says 404 for the parent: it must answer for
// them to be missing. If it is gone, they go with it; if it is not, the next reads raise the doubts again.
func (m *Mirror) Orphan(ctx context.Context, tx pgx.Tx, kind mappings.Kind, parent string, o Observation) error {
	t := m.tables[kind]
	_, err := tx.Exec(ctx, `
		DELETE FROM sync_doubts d USING `+t.name+` t
		WHERE d.kind = $1 AND d.observation < $3 AND d.parent IN ('', $2)
		  AND t.`+quote(t.idColumn())+` = d.id AND t.`+quote(parentOf[kind].column)+` = $2`, kind, parent, o.Number)
	if err != nil {
		return fmt.Errorf("take back doubts about %s of %s: %w", kind, parent, err)
	}
	return nil
}
