package mirror

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// keepHistory makes the history of a table follow its mapping. If it is on, triggers keep versions from now on, and rows without
// any begin with their present one. If it is off, present versions end, and all stay until retention forgets them.
func (t *table) keepHistory(ctx context.Context, tx pgx.Tx) error {
	if !t.mapping.History {
		return t.endHistory(ctx, tx)
	}
	for _, trigger := range t.mapping.Triggers() {
		if _, err := tx.Exec(ctx, trigger); err != nil {
			return err
		}
	}
	var columns string
	err := tx.QueryRow(ctx, `
		SELECT string_agg(quote_ident(h.attname), ', ' ORDER BY h.attnum)
		FROM pg_attribute h JOIN pg_attribute t ON t.attrelid = $1::regclass AND t.attname = h.attname AND NOT t.attisdropped
		WHERE h.attrelid = $2::regclass AND h.attnum > 0 AND NOT h.attisdropped`, t.name, t.history).Scan(&columns)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`
		INSERT INTO %[1]s (valid_from, %[2]s)
		SELECT greatest(coalesce(t._changed_at, now()), (SELECT max(v.valid_to) FROM %[1]s v WHERE %[4]s)), %[2]s
		FROM %[3]s t
		WHERE t._deleted_at IS NULL AND NOT EXISTS (SELECT FROM %[1]s v WHERE %[4]s AND v.valid_to IS NULL)`,
		t.history, columns, t.name, t.sameKey("v", "t")))
	return err
}

func (t *table) endHistory(ctx context.Context, tx pgx.Tx) error {
	// Looked up first, because DROP TRIGGER locks readers out even if there is nothing to drop.
	rows, err := tx.Query(ctx, `
		SELECT quote_ident(tgname) FROM pg_trigger
		WHERE tgrelid = $1::regclass AND NOT tgisinternal AND tgfoid = 'sync_keep_versions'::regproc`, t.name)
	if err != nil {
		return err
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, trigger := range triggers {
		if _, err := tx.Exec(ctx, `DROP TRIGGER `+trigger+` ON `+t.name); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE `+t.history+` SET valid_to = greatest(now(), valid_from + interval '1 microsecond') WHERE valid_to IS NULL`)
	return err
}

// eraseHistory reduces the versions of rows to what remains of the rows themselves: ids and times.
func (t *table) eraseHistory(ctx context.Context, tx pgx.Tx, column string, ids []string) (int64, error) {
	cleared, err := columnsBut(ctx, tx, t.history, append([]string{"valid_from", "valid_to"}, remains[t.mapping.Kind]...))
	if err != nil {
		return 0, err
	}
	cleared = append(cleared, "_raw")
	tag, err := tx.Exec(ctx, fmt.Sprintf(`UPDATE %s SET %s = NULL WHERE %s = ANY ($1) AND num_nonnulls(%s) > 0`,
		t.history, strings.Join(cleared, " = NULL, "), quote(column), strings.Join(cleared, ", ")), ids)
	return tag.RowsAffected(), err
}

// sameKey returns the condition that two rows are versions of the same object.
func (t *table) sameKey(a, b string) string {
	var same []string
	for _, key := range t.mapping.Key {
		same = append(same, fmt.Sprintf("%[1]s.%[3]s = %[2]s.%[3]s", a, b, quote(key)))
	}
	return strings.Join(same, " AND ")
}

// historyOf names the table with the versions of a kind's rows.
func historyOf(kind mappings.Kind) string { return quote(string(kind) + "_history") }
