package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// lockSpace is the first half of the advisory locks that order writers of one kind.
const lockSpace = 0x6c67 // "lg"

// table is a mirrored table with the SQL that its mapping gives.
type table struct {
	mapping *mappings.Table
	lock    int
	name    string
	history string // the table with the versions of its rows
	probe   string // of keys: the hash of each row that exists
	holds   string // of parents: the id and hash of each row in their lists
	known   string // of keys: the object of each row that exists
	upsert  string
	copy    string    // the statement that copyIn feeds
	times   []string  // the fields that hold a time
	parsers sync.Pool // that have taken pages apart, and may know the order of the next one's fields

	keyParams string // $1::text[], …: the arrays that keyArrays gives
	keyFields string // k1, …: what they are called behind unnest
}

func newTable(mapping *mappings.Table, lock int) *table {
	t := &table{mapping: mapping, lock: lock, name: quote(string(mapping.Kind)), history: historyOf(mapping.Kind)}
	for _, column := range mapping.Columns {
		if column.Type == mappings.TimestampTZ {
			t.times = append(t.times, column.Field)
		}
	}

	var keyParams, keyNames, keyJoin []string
	for i, key := range mapping.Key {
		keyParams = append(keyParams, fmt.Sprintf("$%d::text[]", i+1))
		keyNames = append(keyNames, fmt.Sprintf("k%d", i+1))
		keyJoin = append(keyJoin, fmt.Sprintf("t.%s = k.k%d", quote(key), i+1))
	}
	t.keyParams, t.keyFields = strings.Join(keyParams, ", "), strings.Join(keyNames, ", ")
	// Key by key through the index, as queueByIndex makes sure, however small the table was when the plan was made.
	look := func(columns string) string {
		return fmt.Sprintf("SELECT k.n, t.* FROM unnest(%s) WITH ORDINALITY AS k (%s, n) CROSS JOIN LATERAL (SELECT %s FROM %s t WHERE %s OFFSET 0) t",
			t.keyParams, t.keyFields, columns, t.name, strings.Join(keyJoin, " AND "))
	}
	pool := "NULL::text"
	if mapping.Kind == mappings.Contacts {
		pool = "t.pool"
	}
	t.probe = look(`t._hash, t._deleted_at IS NOT NULL AS deleted, ` + pool)
	if of, ok := parentOf[mapping.Kind]; ok {
		t.holds = fmt.Sprintf("SELECT %[1]s, %[2]s, _hash, _deleted_at IS NOT NULL FROM %[3]s WHERE %[1]s = ANY ($1)",
			quote(of.column), quote(t.idColumn()), t.name)
	}
	t.known = look(`t._raw, t._original, CASE WHEN t._raw IS NULL THEN to_jsonb(t) END AS columns`)

	var names, values, params, fields, sets []string
	add := func(name, array, value string) {
		names = append(names, quote(name))
		sets = append(sets, fmt.Sprintf("%s = excluded.%s", quote(name), quote(name)))
		values = append(values, value)
		if array != "" {
			params = append(params, fmt.Sprintf("$%d::%s[]", len(params)+1, array))
			fields = append(fields, fmt.Sprintf("v%d", len(params)))
		}
	}
	for i, column := range mapping.Columns {
		add(column.Name, "text", fmt.Sprintf("x.v%d::%s", i+1, column.Type))
	}
	n := len(mapping.Columns)
	add("_raw", "text", fmt.Sprintf("x.v%d::jsonb", n+1))
	add("_original", "bytea", fmt.Sprintf("x.v%d", n+2))
	add("_hash", "bigint", fmt.Sprintf("x.v%d", n+3))
	add("_changed_at", "", "now()")
	add("_deleted_at", "", "NULL")
	if t.erasable() {
		add("_erased_at", "boolean", fmt.Sprintf("CASE WHEN x.v%d THEN now() END", n+4))
		sets[len(sets)-1] = fmt.Sprintf("_erased_at = CASE WHEN excluded._erased_at IS NOT NULL THEN coalesce(%s._erased_at, excluded._erased_at) END", t.name)
	}
	add("_observed", "bigint", fmt.Sprintf("x.v%d", len(params)+1))
	t.upsert = fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM unnest(%s) AS x (%s) ON CONFLICT (%s) DO UPDATE SET %s",
		t.name, strings.Join(names, ", "), strings.Join(values, ", "), strings.Join(params, ", "),
		strings.Join(fields, ", "), quoteAll(mapping.Key), strings.Join(sets, ", "))
	t.copy = fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", t.name, strings.Join(names, ", "))
	return t
}

// keyArrays gives the rows' keys, one array per key column.
func (t *table) keyArrays(rows []*row) []any {
	arrays := make([]any, len(t.mapping.Key))
	for i := range t.mapping.Key {
		column := make([]string, len(rows))
		for j, row := range rows {
			column[j] = row.key[i]
		}
		arrays[i] = column
	}
	return arrays
}

// loadKnown reads the objects of the rows that exist.
func (t *table) loadKnown(ctx context.Context, tx pgx.Tx, rows []*row) error {
	var existing []*row
	for _, row := range rows {
		if row.exists {
			existing = append(existing, row)
		}
	}
	if len(existing) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	queueByIndex(batch, func() {
		batch.Queue(t.known, t.keyArrays(existing)...).Query(func(result pgx.Rows) error {
			var n int64
			var raw, columns json.RawMessage
			var original []byte
			_, err := pgx.ForEachRow(result, []any{&n, &raw, &original, &columns}, func() (err error) {
				existing[n-1].known, err = t.knownFrom(raw, original, columns)
				return err
			})
			return err
		})
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("read known rows: %w", err)
	}
	return nil
}

// queueByIndex has the planner plan the statements that queue adds once for a connection, as looking at each of hundreds of keys
// costs more than looking them up, and keeps it from reading all of a table that was nearly empty then and has grown since.
func queueByIndex(batch *pgx.Batch, queue func()) {
	const settings = `SELECT set_config('enable_seqscan', $1, true), set_config('plan_cache_mode', $2, true)`
	batch.Queue(settings, "off", "force_generic_plan")
	queue()
	batch.Queue(settings, "on", "auto")
}

// knownFrom gives the object that a row holds: its bytes where jsonb cannot hold them, or else _raw, or else what its columns
// say.
func (t *table) knownFrom(raw json.RawMessage, original []byte, columns json.RawMessage) (known mappings.Object, err error) {
	if original != nil {
		raw = original
	}
	if raw != nil {
		err = json.Unmarshal(raw, &known)
		return known, err
	}
	var row mappings.Object
	err = json.Unmarshal(columns, &row)
	return t.mapping.Object(row), err
}

// upsertArgs gives the rows as one array per column, all but the last, which is _observed.
func (t *table) upsertArgs(rows []*row) []any {
	columns := make([][]*string, len(t.mapping.Columns)+1)
	for i := range columns {
		columns[i] = make([]*string, len(rows))
	}
	originals := make([][]byte, len(rows))
	hashes := make([]int64, len(rows))
	erased := make([]bool, len(rows))
	for j, row := range rows {
		for i, value := range t.mapping.Row(row.object()) {
			columns[i][j] = value
		}
		raw, original := t.raw(row)
		if raw != nil {
			text := string(raw)
			columns[len(columns)-1][j] = &text
		}
		originals[j] = original
		hashes[j], erased[j] = row.hash, row.erased
	}
	args := make([]any, 0, len(columns)+4)
	for _, column := range columns {
		args = append(args, column)
	}
	args = append(args, originals, hashes)
	if t.erasable() {
		args = append(args, erased)
	}
	return args
}

// numbersOf gives the reads that changed the rows.
func numbersOf(rows []*row) []int64 {
	numbers := make([]int64, len(rows))
	for i, row := range rows {
		numbers[i] = row.changed
	}
	return numbers
}

// raw gives what _raw and _original hold of a row.
func (t *table) raw(row *row) (raw json.RawMessage, original []byte) {
	if t.mapping.Raw == mappings.RawDrop || row.rawless {
		return nil, nil
	}
	body := row.body
	if body == nil {
		body = encode(row.known)
	}
	raw, same := mappings.StorableJSON(body)
	if !same {
		original = body
	}
	return raw, original
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}
