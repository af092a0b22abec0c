package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// LedgerMissing names reads, of an object or of a parent's list, that were answered with 404: nothing has been read, but it has
// been asked for.
func LedgerMissing(kind mappings.Kind) string { return "missing " + string(kind) }

// LedgerTail names reads of the end of a dossier's notes in the ledger.
const LedgerTail = "new notes"

// Stretch is the part of a kind's lists that a full sweep reads at once: of the parents whose ids come after After, up to Last.
type Stretch struct {
	Sweep       int64
	After, Last string
}

// ApplyComplete applies all pages of a complete read and judges what they left out: a live row that was absent from two
// complete reads, the second of which began when no replica could still hide it, is gone (promise 5).
func (m *Mirror) ApplyComplete(ctx context.Context, tx pgx.Tx, read Complete) (Applied, error) {
	return m.applyLists(ctx, tx, read.Kind, []Complete{read}, func(batch *pgx.Batch, lists []Complete) {
		for _, list := range lists {
			queueRead(batch, LedgerKind(list.Kind), list.Parent, list.First)
		}
	})
}

// ApplyStretch does the same for the lists of several parents, each one's once, and leaves one row for them in the ledger.
func (m *Mirror) ApplyStretch(ctx context.Context, tx pgx.Tx, kind mappings.Kind, reads []Complete, stretch Stretch) (Applied, error) {
	return m.applyLists(ctx, tx, kind, reads, func(batch *pgx.Batch, lists []Complete) { queueStretch(batch, kind, lists, stretch) })
}

func (m *Mirror) applyLists(
	ctx context.Context, tx pgx.Tx, kind mappings.Kind, lists []Complete, note func(batch *pgx.Batch, applied []Complete),
) (applied Applied, err error) {
	var pages []Read
	of := make(map[string]*Complete, len(lists))
	for i := range lists {
		list := &lists[i]
		of[list.Parent] = list
		for _, page := range list.Pages {
			page.Parent, page.complete, page.all = list.Parent, true, len(list.Pages) == 1
			pages = append(pages, page)
		}
	}
	each, s, err := m.applyAll(ctx, tx, pages)
	if err != nil {
		return Applied{}, err
	}
	seen := make(map[string][]string, len(lists))
	for i, one := range each {
		applied.Add(one)
		parent := pages[i].Parent
		if seen[parent] == nil {
			seen[parent] = []string{} // an empty list leaves everything out; nil would be null, which is neither in it nor not
		}
		seen[parent] = append(append(seen[parent], one.Keys...), one.Older...)
	}
	// The lists of parents that are gone have not been applied: they are read anew when their parents are back.
	lists = slices.DeleteFunc(slices.Clone(lists), func(list Complete) bool { return s.gone[list.Parent] })
	batch := &pgx.Batch{}
	for _, parent := range s.absent(seen) {
		if list := of[parent]; s.listed[parent] < list.First.Number {
			m.queueJudgement(batch, list, seen[parent], &applied)
		} // and else a later read of this list has judged already
	}
	note(batch, lists)
	parents, numbers := make([]string, len(lists)), make([]int64, len(lists))
	for i, list := range lists {
		parents[i], numbers[i] = list.Parent, list.First.Number
	}
	// LeadGrid answered for the parents, so they live.
	batch.Queue(`
		DELETE FROM sync_doubts d USING unnest($2::text[], $3::bigint[]) AS p (id, observation)
		WHERE d.kind = $1 AND d.parent = '' AND d.id = p.id AND d.reason <> 'older' AND d.observation < p.observation`,
		parentOf[kind].kind, parents, numbers)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return Applied{}, fmt.Errorf("note the lists of %s: %w", kind, err)
	}
	return applied, nil
}

// absent gives the parents of rows that were live and that their lists did not show.
func (s *state) absent(seen map[string][]string) (parents []string) {
	shown := make(map[held]bool, len(s.held))
	for parent, ids := range seen {
		for _, id := range ids {
			shown[held{parent, id}] = true
		}
	}
	for _, row := range s.held {
		if !shown[row] && !slices.Contains(parents, row.parent) {
			parents = append(parents, row.parent)
		}
	}
	return parents
}

// queueJudgement judges the rows that one list left out.
func (m *Mirror) queueJudgement(batch *pgx.Batch, read *Complete, seen []string, applied *Applied) {
	table := m.tables[read.Kind]
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
		applied.Deleted = append(applied.Deleted, ids...)
		return err
	})
}

// queueStretch puts the lists of a stretch into the ledger, in the place of what earlier sweeps left there. What was read then
// and not now keeps its place in the order by a row of its own.
func queueStretch(batch *pgx.Batch, kind mappings.Kind, reads []Complete, stretch Stretch) {
	ids, behind := make([]string, len(reads)), make([]int64, len(reads))
	for i, read := range reads {
		ids[i] = read.Parent
	}
	batch.Queue(`
		WITH replaced AS (
			DELETE FROM sync_lists WHERE kind = $1 AND last > $2 AND last <= $3 RETURNING *
		)
		INSERT INTO sync_reads (kind, id, observation, began_at)
		SELECT DISTINCT ON (parent.id) $1, parent.id, replaced.observation - list.behind, replaced.began_at
		FROM replaced CROSS JOIN LATERAL unnest(replaced.keys, replaced.behind) AS list (key, behind)
		JOIN LATERAL (
			SELECT id FROM `+string(parentOf[kind].kind)+`
			WHERE id BETWEEN replaced.first AND replaced.last AND hashtextextended(id, 0) = list.key
		) parent ON true
		LEFT JOIN LATERAL (
			SELECT keys FROM sync_lists WHERE kind = $1 AND last >= parent.id AND last <= $2 ORDER BY last LIMIT 1
		) before ON true
		WHERE list.key <> ALL (ARRAY(SELECT hashtextextended(id, 0) FROM unnest($4::text[]) AS read (id)))
		  AND (list.key = ANY (before.keys)) IS NOT TRUE
		ORDER BY parent.id, replaced.observation - list.behind DESC -- stretches of several sweeps may hold it
		ON CONFLICT (kind, id) DO UPDATE SET observation = excluded.observation, began_at = excluded.began_at
		WHERE sync_reads.observation < excluded.observation`, LedgerKind(kind), stretch.After, stretch.Last, ids)
	if len(reads) == 0 {
		return
	}
	newest, oldest := reads[0].First, reads[0].First
	for _, read := range reads {
		if read.First.Number > newest.Number {
			newest = read.First
		}
		if read.First.BeganAt.Before(oldest.BeganAt) {
			oldest = read.First
		}
	}
	for i, read := range reads {
		behind[i] = newest.Number - read.First.Number
	}
	batch.Queue(`
		INSERT INTO sync_lists (kind, first, last, sweep, observation, began_at, keys, behind)
		SELECT $1, min(list.id), $2, $3, $4, $5, array_agg(hashtextextended(list.id, 0)), array_agg(list.behind::integer)
		FROM unnest($6::text[], $7::bigint[]) AS list (id, behind)`,
		LedgerKind(kind), stretch.Last, stretch.Sweep, newest.Number, oldest.BeganAt, ids, behind)
}

// lastLists finds the last finished complete reads of parents' lists. Of the stretches, only the first that reaches as far as
// the id can hold it: a sweep leaves none of an older one behind it.
//
// one looks for one id. It is for Postgres to see that it is no more than one: or else it plans anew every time.
const lastLists, lastList = lastOf + `unnest($2::text[]) AS p (id)` + inLists, lastOf + `(SELECT $2::text AS id) AS p` + inLists

const lastOf = `
	SELECT p.id, greatest(r.observation, stretch.observation - stretch.behind[list.place]),
	       greatest(r.began_at, CASE WHEN list.place IS NOT NULL THEN stretch.began_at END)
	FROM `

const inLists = `
	LEFT JOIN sync_reads r ON r.kind = $1 AND r.id = p.id
	LEFT JOIN LATERAL (SELECT * FROM sync_lists WHERE kind = $1 AND last >= p.id ORDER BY last LIMIT 1) stretch ON true
	LEFT JOIN LATERAL (SELECT array_position(stretch.keys, hashtextextended(p.id, 0)) AS place) list ON true
	WHERE r.id IS NOT NULL OR list.place IS NOT NULL`

// LastRead looks up the last finished read of an object or, by its LedgerKind, of a list; zero if there was none.
func (m *Mirror) LastRead(ctx context.Context, kind, id string) (last Observation, err error) {
	err = m.pool.QueryRow(ctx, lastList, kind, id).Scan(&id, &last.Number, &last.BeganAt)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Observation{}, fmt.Errorf("look up the last read of %s: %w", kind, err)
	}
	return last, nil
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
