package mirror

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Complete is a read of everything a parent holds: a dossier's links or notes, a flow's stages.
type Complete struct {
	Kind   mappings.Kind
	Parent string
	First  Observation // of the first page: rows sighted by reads that began later are not judged
	Pages  []Read
}

// parentOf says what kind the parent is, and which column names it.
var parentOf = map[mappings.Kind]struct {
	kind   mappings.Kind
	column string
}{
	mappings.Links:  {mappings.Dossiers, "dossier_id"},
	mappings.Notes:  {mappings.Dossiers, "dossier_id"},
	mappings.Stages: {mappings.Flows, "flow_id"},
}

// LedgerKind names complete reads of parents in the ledger, beside the objects themselves.
func LedgerKind(kind mappings.Kind) string { return "complete " + string(kind) }

// LedgerTail names reads of the end of a dossier's notes in the ledger.
const LedgerTail = "new notes"

// ApplyComplete applies all pages of a complete read and judges what they left out: a live row that was absent from two
// complete reads, the second of which began when no replica could still hide it, is gone (promise 5).
func (m *Mirror) ApplyComplete(ctx context.Context, tx pgx.Tx, read Complete) (applied Applied, err error) {
	for _, page := range read.Pages {
		page.Parent = read.Parent
		one, err := m.Apply(ctx, tx, page)
		if err != nil {
			return Applied{}, err
		}
		applied.Add(one)
	}
	table := m.tables[read.Kind]
	seen := make([]string, 0, len(applied.Keys)+len(applied.Older))
	seen = append(append(seen, applied.Keys...), applied.Older...)

	batch := &pgx.Batch{}
	batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, table.lock)
	batch.Queue(`
		WITH absent AS (
			SELECT t.`+quote(table.idColumn())+` AS id, t._changed_at, `+table.guardExpression("t")+` AS guard
			FROM `+table.name+` t
			WHERE t.`+quote(parentOf[read.Kind].column)+` = $2 AND t._deleted_at IS NULL
			  AND t.`+quote(table.idColumn())+` <> ALL ($3)
		), judged AS (
			SELECT * FROM absent a
			WHERE NOT EXISTS (
				SELECT FROM sync_pages p
				WHERE p.kind = $1 AND p.observation >= $4 AND hashtextextended(a.guard, 0) = ANY (p.keys))
			  AND NOT EXISTS (
				SELECT FROM sync_reads r WHERE r.kind = $1 AND r.id = a.guard AND r.observation >= $4)
		), confirmed AS (
			SELECT j.id FROM judged j JOIN sync_doubts d ON d.kind = $1 AND d.parent = $6 AND d.id = j.id
			WHERE d.reason = 'absent' AND d.observation < $4 AND j._changed_at + $7::interval <= $5::timestamptz
		), nominated AS (
			INSERT INTO sync_doubts (kind, id, parent, reason, observation, since)
			SELECT $1, j.id, $6, 'absent', $4::bigint, $5::timestamptz FROM judged j
			WHERE j.id NOT IN (SELECT id FROM confirmed)
			ON CONFLICT (kind, parent, id) DO UPDATE SET reason = 'absent', observation = excluded.observation
			WHERE sync_doubts.reason <> 'absent'
		), forgotten AS (
			DELETE FROM sync_doubts WHERE kind = $1 AND parent = $6 AND id IN (SELECT id FROM confirmed)
		)
		UPDATE `+table.name+` t SET _deleted_at = now(), _changed_at = now(), _observed = $4
		FROM confirmed c
		WHERE t.`+quote(table.idColumn())+` = c.id AND t.`+quote(parentOf[read.Kind].column)+` = $2 AND t._deleted_at IS NULL
		RETURNING c.id`,
		read.Kind, read.Parent, seen, read.First.Number, read.First.BeganAt, table.doubtParent(read.Parent), m.lag,
	).Query(func(rows pgx.Rows) error {
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		applied.Deleted = ids
		return err
	})
	queueRead(batch, LedgerKind(read.Kind), read.Parent, read.First)
	// LeadGrid answered for the parent, so the parent lives.
	batch.Queue(`DELETE FROM sync_doubts WHERE kind = $1 AND parent = '' AND id = $2 AND reason <> 'older' AND observation < $3`,
		parentOf[read.Kind].kind, read.Parent, read.First.Number)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return Applied{}, fmt.Errorf("judge what %s of %s left out: %w", read.Kind, read.Parent, err)
	}
	return applied, nil
}

// idColumn is the column that names the object itself.
func (t *table) idColumn() string { return t.mapping.Key[len(t.mapping.Key)-1] }

// guardExpression gives, in SQL, the name the ledger knows a row by.
func (t *table) guardExpression(alias string) string {
	if len(t.mapping.Key) == 1 {
		return alias + "." + quote(t.mapping.Key[0])
	}
	return alias + "." + quote(t.mapping.Key[0]) + ` || E'\x1f' || ` + alias + "." + quote(t.mapping.Key[1])
}

// doubtParent is what a doubt about a row carries beside its id: the dossier for a link, which has no id of its own.
func (t *table) doubtParent(parent string) string {
	if len(t.mapping.Key) == 1 {
		return ""
	}
	return parent
}
