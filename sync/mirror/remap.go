package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// hashOnly is what is kept of an object that cannot be filed while the mapping keeps something out: what it holds cannot
// be told from what must not land, and privacy wins (promise 12).
func hashOnly(body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte("sha256:" + hex.EncodeToString(sum[:]))
}

// oddity is what is kept of an object without a usable id.
func (t *table) oddity(body json.RawMessage) json.RawMessage {
	if t.mapping.Strict() {
		return hashOnly(body)
	}
	return body
}

// Remapped counts what a new mapping changed.
type Remapped struct {
	Rows   int64
	Events int64
}

// remapAtOnce is how many rows are looked at between two questions.
const remapAtOnce = 500

// Remap makes the database follow the mapping, in the caller's transaction: it adds columns, fills them from _raw without
// asking LeadGrid, and takes what must not be kept out of rows and stored events. It may be repeated: what follows the
// mapping already is not written.
func (m *Mirror) Remap(ctx context.Context, tx pgx.Tx, mapping *mappings.Mapping) (remapped Remapped, err error) {
	batch := &pgx.Batch{}
	for _, kind := range mappings.Kinds {
		batch.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockSpace, m.tables[kind].lock)
	}
	for _, statement := range mapping.DDL() {
		batch.Queue(statement.SQL)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return remapped, fmt.Errorf("add columns: %w", err)
	}
	for _, kind := range mappings.Kinds {
		n, err := m.tables[kind].remap(ctx, tx)
		if err != nil {
			return remapped, fmt.Errorf("remap %s: %w", kind, err)
		}
		remapped.Rows += n
	}
	if mapping.Strict() {
		if remapped.Events, err = remapEvents(ctx, tx, mapping); err != nil {
			return remapped, fmt.Errorf("remap events: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sync_oddities WHERE NOT starts_with(encode(body, 'escape'), 'sha256:')`); err != nil {
			return remapped, fmt.Errorf("remap oddities: %w", err)
		}
	}
	return remapped, nil
}

// remap writes the rows of a table that do not follow its mapping.
func (t *table) remap(ctx context.Context, tx pgx.Tx) (total int64, err error) {
	keys := `ARRAY[` + quoteAll(t.mapping.Key) + `]::text[]`
	var assign, differs []string
	add := func(column, value string) {
		assign = append(assign, column+" = "+value)
		differs = append(differs, fmt.Sprintf("t.%s IS DISTINCT FROM %s", column, value))
	}
	var params, fields []string
	next := len(t.mapping.Key)
	unnested := func(array string) string {
		next++
		params, fields = append(params, fmt.Sprintf("$%d::%s[]", next, array)), append(fields, fmt.Sprintf("v%d", next))
		return fmt.Sprintf("x.v%d", next)
	}
	for _, column := range t.mapping.Columns {
		value := unnested("text")
		if !slices.Contains(t.mapping.Key, column.Name) {
			add(quote(column.Name), value+"::"+string(column.Type))
		}
	}
	add("_raw", unnested("text")+"::jsonb")
	add("_original", unnested("bytea"))
	add("_hash", unnested("bigint"))
	emptied, err := t.unfilled(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, column := range emptied {
		add(column, "NULL")
	}
	var join []string
	for i, key := range t.mapping.Key {
		join = append(join, fmt.Sprintf("t.%s = x.k%d", quote(key), i+1))
	}
	update := fmt.Sprintf(`UPDATE %s t SET %s, _changed_at = now() FROM unnest(%s, %s) AS x (%s, %s) WHERE %s AND (%s)`,
		t.name, strings.Join(assign, ", "), t.keyParams, strings.Join(params, ", "), t.keyFields, strings.Join(fields, ", "),
		strings.Join(join, " AND "), strings.Join(differs, " OR "))

	for last := (*[]string)(nil); ; {
		rows, err := tx.Query(ctx, `SELECT `+keys+` FROM `+t.name+` WHERE _raw IS NOT NULL AND ($1::text[] IS NULL OR `+keys+` > $1) ORDER BY 1 LIMIT $2`,
			last, remapAtOnce)
		if err != nil {
			return total, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
		if err != nil || len(found) == 0 {
			return total, err
		}
		last = &found[len(found)-1]
		batch := make([]*row, len(found))
		for i, key := range found {
			batch[i] = &row{key: key, exists: true}
		}
		if err := t.loadKnown(ctx, tx, batch); err != nil {
			return total, err
		}
		for _, row := range batch {
			row.merged = t.mapping.Shape(row.known)
			row.mergedHash = t.hash(row.merged)
		}
		args := t.upsertArgs(batch, 0)
		args = args[:len(t.mapping.Columns)+3] // without who was erased and the observation
		tag, err := tx.Exec(ctx, update, append(t.keyArrays(batch), args...)...)
		if err != nil {
			return total, err
		}
		total += tag.RowsAffected()
	}
}

// unfilled lists the columns that the mapping does not fill: they stay for the views that use them, and empty.
func (t *table) unfilled(ctx context.Context, tx pgx.Tx) ([]string, error) {
	names := make([]string, len(t.mapping.Columns))
	for i, column := range t.mapping.Columns {
		names[i] = column.Name
	}
	rows, err := tx.Query(ctx, `
		SELECT quote_ident(attname) FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
		  AND left(attname, 1) <> '_' AND attname <> ALL ($2)`, t.name, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// remapEvents takes out of stored events what must not be kept; what cannot be understood keeps only its hash.
func remapEvents(ctx context.Context, tx pgx.Tx, mapping *mappings.Mapping) (total int64, err error) {
	tag, err := tx.Exec(ctx, `UPDATE webhook_events SET body = '' WHERE body <> ''`)
	if err != nil {
		return 0, err
	}
	total = tag.RowsAffected()
	for last := []byte{}; ; {
		rows, err := tx.Query(ctx, `SELECT digest, payload FROM webhook_events WHERE payload IS NOT NULL AND digest > $1 ORDER BY digest LIMIT $2`,
			last, remapAtOnce)
		if err != nil {
			return total, err
		}
		var digests [][]byte
		var payloads []*string
		var digest []byte
		var payload json.RawMessage
		_, err = pgx.ForEachRow(rows, []any{&digest, &payload}, func() error {
			var kept *string
			if shaped, ok := mapping.Payload(payload); ok {
				text := string(shaped)
				kept = &text
			}
			digests, payloads = append(digests, slices.Clone(digest)), append(payloads, kept)
			return nil
		})
		if err != nil || len(digests) == 0 {
			return total, err
		}
		last = digests[len(digests)-1]
		tag, err := tx.Exec(ctx, `
			UPDATE webhook_events e SET payload = x.payload::jsonb FROM unnest($1::bytea[], $2::text[]) AS x (digest, payload)
			WHERE e.digest = x.digest AND e.payload IS DISTINCT FROM x.payload::jsonb`, digests, payloads)
		if err != nil {
			return total, err
		}
		total += tag.RowsAffected()
	}
}
