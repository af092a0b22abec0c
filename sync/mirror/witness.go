package mirror

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Witness is a live row whose object can be asked for, to see whether the key still reads the mirrored organization.
type Witness struct {
	Kind mappings.Kind
	ID   string
}

// Witnesses picks at random a few live rows that are not in doubt: at most two of a kind, dossiers first, flows last.
func (m *Mirror) Witnesses(ctx context.Context) ([]Witness, error) {
	rows, err := m.pool.Query(ctx, `
		WITH live AS (
			(SELECT 'dossiers' AS kind, id FROM dossiers WHERE _deleted_at IS NULL LIMIT 20)
			UNION ALL (SELECT 'contacts', id FROM contacts WHERE _deleted_at IS NULL LIMIT 20)
			UNION ALL (SELECT 'flows', id FROM flows WHERE _deleted_at IS NULL LIMIT 20)
		), numbered AS (
			SELECT kind, id, row_number() OVER (PARTITION BY kind ORDER BY random()) AS n
			FROM live l
			WHERE NOT EXISTS (SELECT FROM sync_doubts d WHERE d.kind = l.kind AND d.parent = '' AND d.id = l.id)
		)
		SELECT kind, id FROM numbered WHERE n <= 2 ORDER BY n, kind = 'flows', kind = 'contacts'`)
	if err != nil {
		return nil, fmt.Errorf("pick witnesses: %w", err)
	}
	witnesses, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Witness])
	if err != nil {
		return nil, fmt.Errorf("pick witnesses: %w", err)
	}
	return witnesses, nil
}

// Some gives the ids of up to n live rows.
func (m *Mirror) Some(ctx context.Context, kind mappings.Kind, n int) ([]string, error) {
	rows, err := m.pool.Query(ctx, `SELECT id FROM `+m.tables[kind].name+` WHERE _deleted_at IS NULL ORDER BY random() LIMIT $1`, n)
	if err != nil {
		return nil, fmt.Errorf("pick some %s: %w", kind, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("pick some %s: %w", kind, err)
	}
	return ids, nil
}

// Knows reports whether any of the objects has a live row.
func (m *Mirror) Knows(ctx context.Context, kind mappings.Kind, objects []json.RawMessage) (known bool, err error) {
	table := m.tables[kind]
	ids := table.idsOf(objects)
	err = m.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+table.name+` WHERE id = ANY ($1) AND _deleted_at IS NULL)`, ids).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look for known %s: %w", kind, err)
	}
	return known, nil
}

// Unknown gives the ids of those objects that have no live row.
func (m *Mirror) Unknown(ctx context.Context, kind mappings.Kind, objects []json.RawMessage) ([]string, error) {
	table := m.tables[kind]
	ids := table.idsOf(objects)
	rows, err := m.pool.Query(ctx, `
		SELECT k.id FROM unnest($1::text[]) AS k (id)
		WHERE NOT EXISTS (SELECT FROM `+table.name+` t WHERE t.id = k.id AND t._deleted_at IS NULL)`, ids)
	if err != nil {
		return nil, fmt.Errorf("look for unknown %s: %w", kind, err)
	}
	unknown, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for unknown %s: %w", kind, err)
	}
	return unknown, nil
}

func (t *table) idsOf(objects []json.RawMessage) []string {
	sightings, _, _ := t.parse(objects)
	ids := make([]string, len(sightings))
	for i, s := range sightings {
		ids[i] = s.key[len(s.key)-1]
	}
	return ids
}
