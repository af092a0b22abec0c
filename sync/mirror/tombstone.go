package mirror

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Nominate puts every live row that a complete sweep did not see in doubt. Absence only nominates: a tombstone takes
// two GETs that say 404 (promise 5). Rows that any read has added or changed since the sweep began were seen by that.
func (m *Mirror) Nominate(ctx context.Context, tx pgx.Tx, kind mappings.Kind, sweep int64, began Observation) error {
	t := m.tables[kind]
	if err := WithoutNestedLoops(ctx, tx); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO sync_doubts (kind, id, reason, observation, since)
		SELECT $1, t.id, 'absent', nextval('observations'), clock_timestamp()
		FROM `+t.name+` t
		WHERE t._deleted_at IS NULL AND t._observed < $3
		  AND NOT EXISTS (
			SELECT FROM (SELECT unnest(keys) AS key FROM sync_pages WHERE sweep = $2 AND kind = $1) seen
			WHERE seen.key = hashtextextended(t.id, 0))
		ON CONFLICT (kind, parent, id) DO UPDATE SET reason = 'absent', observation = excluded.observation
		WHERE sync_doubts.reason = 'older'`, kind, sweep, began.Number)
	if err != nil {
		return fmt.Errorf("nominate %s: %w", kind, err)
	}
	return nil
}

// WithoutNestedLoops keeps the planner, for the rest of the transaction, from comparing every row with every key that a
// sweep has seen: it cannot know how many keys a page holds, and its guess makes a million rows take days.
func WithoutNestedLoops(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SET LOCAL enable_nestloop = off`); err != nil {
		return fmt.Errorf("rule out nested loops: %w", err)
	}
	return nil
}

// NotFound notes that a GET of the row said 404. The first one after a nomination makes it gone; a second one that began
// when no replica could still hide the row confirms it, and confirmed is true: the caller then proves that the
// organization still answers, and calls Tombstone. Rows nobody nominated stay as they are.
func (m *Mirror) NotFound(ctx context.Context, tx pgx.Tx, kind mappings.Kind, id string, o Observation) (confirmed bool, err error) {
	t := m.tables[kind]
	batch := &pgx.Batch{}
	queueKnown(batch, o)
	queueRead(batch, string(kind), id, o)
	queueRead(batch, LedgerMissing(kind), id, o)
	batch.Queue(`
		SELECT d.reason = 'gone' AND d.observation < $3 AND coalesce(t._changed_at, '-infinity') + $4::interval <= $5::timestamptz
		FROM sync_doubts d LEFT JOIN `+t.name+` t ON t.id = d.id
		WHERE d.kind = $1 AND d.parent = '' AND d.id = $2`, kind, id, o.Number, m.lag, o.BeganAt,
	).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&confirmed}, func() error { return nil })
		return err
	})
	batch.Queue(`
		UPDATE sync_doubts SET reason = 'gone', observation = $3
		WHERE kind = $1 AND parent = '' AND id = $2 AND reason = 'absent' AND observation < $3`, kind, id, o.Number)
	// What is not there is not shown older than it is known: the next complete sweep decides what it means.
	batch.Queue(`
		DELETE FROM sync_doubts
		WHERE kind = $1 AND parent = '' AND id = $2 AND reason = 'older' AND observation < $3`, kind, id, o.Number)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return false, fmt.Errorf("note that %s %s was not found: %w", kind, id, err)
	}
	return confirmed, nil
}

// Missing counts the live rows of a kind that LeadGrid seems to have no more.
type Missing struct {
	Absent int // a complete read did not see them, whether or not they have been asked for since
	Gone   int // of those, a GET has said 404 for them
	Held   int // of those, an earlier sweep stopped rather than mark them
}

// Missing counts the rows of a kind that could be marked as deleted.
func (m *Mirror) Missing(ctx context.Context, kind mappings.Kind) (n Missing, err error) {
	err = m.pool.QueryRow(ctx, `
		SELECT count(*), count(*) FILTER (WHERE reason = 'gone'), count(*) FILTER (WHERE held) FROM sync_doubts
		WHERE kind = $1 AND reason IN ('gone', 'absent')`, kind).Scan(&n.Absent, &n.Gone, &n.Held)
	if err != nil {
		return Missing{}, fmt.Errorf("count missing %s: %w", kind, err)
	}
	return n, nil
}

// Hold keeps the rows of a kind that are missing now from being marked as deleted until a person accepts that.
func (m *Mirror) Hold(ctx context.Context, tx pgx.Tx, kind mappings.Kind) error {
	_, err := tx.Exec(ctx, `UPDATE sync_doubts SET held = true WHERE kind = $1 AND reason IN ('gone', 'absent') AND NOT held`, kind)
	if err != nil {
		return fmt.Errorf("hold missing %s: %w", kind, err)
	}
	return nil
}

// children are the tables whose rows go when a row of a kind goes, each with the column that names the parent.
var children = map[mappings.Kind][]struct {
	kind   mappings.Kind
	column string
}{
	mappings.Dossiers: {{mappings.Notes, "dossier_id"}, {mappings.Links, "dossier_id"}},
	mappings.Contacts: {{mappings.Links, "contact_id"}},
	mappings.Flows:    {{mappings.Stages, "flow_id"}},
}

// Tombstone marks confirmed rows as deleted upstream, and with them all that hangs on them. A row that a read has told
// about since its last 404 stays. People who are gone from LeadGrid are erased here as well (promise 11). It returns how
// many rows of which table were marked.
func (m *Mirror) Tombstone(ctx context.Context, tx pgx.Tx, kind mappings.Kind, ids []string, o Observation) (map[mappings.Kind]int, error) {
	if m.tables[kind].erasable() {
		if err := m.lockPeople(ctx, tx); err != nil {
			return nil, fmt.Errorf("tombstone %s: %w", kind, err)
		}
	}
	batch := &pgx.Batch{}
	queueKnown(batch, o)
	batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, m.tables[kind].lock)
	for _, child := range children[kind] {
		batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, m.tables[child.kind].lock)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("tombstone %s: %w", kind, err)
	}
	rows, err := tx.Query(ctx, `
		WITH gone AS (
			DELETE FROM sync_doubts WHERE kind = $1 AND parent = '' AND id = ANY ($2) AND reason = 'gone' RETURNING id
		)
		UPDATE `+m.tables[kind].name+` t SET _deleted_at = now(), _changed_at = now(), _observed = $3
		FROM gone WHERE t.id = gone.id AND t._deleted_at IS NULL RETURNING t.id`, kind, ids, o.Number)
	if err != nil {
		return nil, fmt.Errorf("tombstone %s: %w", kind, err)
	}
	deleted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("tombstone %s: %w", kind, err)
	}
	gone := map[mappings.Kind]int{kind: len(deleted)}
	for _, child := range children[kind] {
		tag, err := tx.Exec(ctx, `
			UPDATE `+m.tables[child.kind].name+` SET _deleted_at = now(), _changed_at = now(), _observed = $2
			WHERE `+quote(child.column)+` = ANY ($1) AND _deleted_at IS NULL`, deleted, o.Number)
		if err != nil {
			return nil, fmt.Errorf("tombstone %s of %s: %w", child.kind, kind, err)
		}
		gone[child.kind] = int(tag.RowsAffected())
	}
	if kind == mappings.Contacts || kind == mappings.Dossiers {
		return gone, m.eraseGone(ctx, tx, kind, deleted)
	}
	return gone, nil
}
