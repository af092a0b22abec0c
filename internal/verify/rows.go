package verify

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// rows reads a table's live rows that meet a condition, and returns them by id.
func (v *verifier) rows(ctx context.Context, t *table, condition string, args ...any) (map[string]row, error) {
	result, err := v.pool.Query(ctx, `SELECT to_jsonb(t) FROM `+t.name+` t WHERE _deleted_at IS NULL AND `+condition, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	found := make(map[string]row)
	var body json.RawMessage
	_, err = pgx.ForEachRow(result, []any{&body}, func() error {
		have := row(decode(body))
		found[t.id(have)] = have
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	return found, nil
}

// ids lists the ids of a table's live rows. It is not for links, which have no column id.
func (v *verifier) ids(ctx context.Context, t *table) ([]string, error) {
	result, err := v.pool.Query(ctx, `SELECT id FROM `+t.name+` WHERE _deleted_at IS NULL ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.name, err)
	}
	ids, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.name, err)
	}
	return ids, nil
}

// loadColumns asks Postgres which columns the tables have.
func (v *verifier) loadColumns(ctx context.Context) error {
	v.columns = make(map[*table]columns)
	for _, t := range tables {
		result, err := v.pool.Query(ctx, `
			SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
			WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`, t.name)
		if err != nil {
			return fmt.Errorf("list the columns of %s: %w", t.name, err)
		}
		v.columns[t] = make(columns)
		var name, columnType string
		_, err = pgx.ForEachRow(result, []any{&name, &columnType}, func() error { v.columns[t][name] = columnType; return nil })
		if err != nil {
			return fmt.Errorf("list the columns of %s: %w", t.name, err)
		}
		v.withoutOwn(t)
	}
	return nil
}
