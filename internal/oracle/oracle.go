// Package oracle compares a mirror with the truth, field by field, for tests and the demo. It shares no code with what it
// judges: it knows neither the mapping nor the client, and reads the tables as any analyst would.
package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Truth is what LeadGrid holds: table, then id (dossier_id|contact_id for links), then field. Texts are string, numbers
// json.Number, times time.Time, lists []string, and null is nil.
type Truth map[string]map[string]map[string]any

// keys are the columns that make up the id by which Truth names a row.
var keys = map[string][]string{"dossier_contacts": {"dossier_id", "contact_id"}}

// Options limits the comparison.
type Options struct {
	// Ignore lists fields, like dossiers.city, that LeadGrid does not show.
	Ignore []string
	// Tables limits the comparison; empty compares all of them.
	Tables []string
	// IDs limits it to the rows of these ids; nil compares all of them.
	IDs map[string]bool
}

// Differences lists what is missing, extra or different in the mirror, a line each, at most a hundred.
func Differences(ctx context.Context, pool *pgxpool.Pool, truth Truth, options Options) ([]string, error) {
	var differences []string
	for _, table := range []string{"flows", "stages", "dossiers", "contacts", "dossier_contacts", "notes"} {
		if len(options.Tables) > 0 && !slices.Contains(options.Tables, table) {
			continue
		}
		rows, err := live(ctx, pool, table)
		if err != nil {
			return nil, err
		}
		differences = append(differences, compare(table, only(rows, options.IDs), only(truth[table], options.IDs), options.Ignore)...)
	}
	slices.Sort(differences)
	return differences[:min(100, len(differences))], nil
}

// only returns the rows with these ids, or all if ids is nil.
func only(rows map[string]map[string]any, ids map[string]bool) map[string]map[string]any {
	if ids == nil {
		return rows
	}
	some := make(map[string]map[string]any)
	for id := range ids {
		if row, ok := rows[id]; ok {
			some[id] = row
		}
	}
	return some
}

func compare(table string, have, want map[string]map[string]any, ignore []string) (differences []string) {
	for id := range have {
		if _, ok := want[id]; !ok {
			differences = append(differences, fmt.Sprintf("%s %q: extra", table, id))
		}
	}
	for id, fields := range want {
		row, ok := have[id]
		if !ok {
			differences = append(differences, fmt.Sprintf("%s %q: missing", table, id))
			continue
		}
		for field, value := range fields {
			if field == "stages" || slices.Contains(ignore, table+"."+field) {
				continue // stages have a table of their own
			}
			if got, exists := row[field]; !exists {
				differences = append(differences, fmt.Sprintf("%s %q: no column %s", table, id, field))
			} else if !same(got, value) {
				differences = append(differences, fmt.Sprintf("%s %q: %s is %v, should be %v", table, id, field, show(got), show(value)))
			}
		}
	}
	return differences
}

func live(ctx context.Context, pool *pgxpool.Pool, table string) (map[string]map[string]any, error) {
	var columns string
	err := pool.QueryRow(ctx, `
		SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
		WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND left(attname, 1) <> '_'`, table).Scan(&columns)
	if err != nil {
		return nil, fmt.Errorf("list columns of %s: %w", table, err)
	}
	rows, err := pool.Query(ctx, `SELECT `+columns+` FROM `+table+` WHERE _deleted_at IS NULL`)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	maps, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	names := keys[table]
	if names == nil {
		names = []string{"id"}
	}
	byID := make(map[string]map[string]any, len(maps))
	for _, row := range maps {
		var parts []string
		for _, name := range names {
			parts = append(parts, fmt.Sprint(row[name]))
		}
		byID[strings.Join(parts, "|")] = row
	}
	return byID, nil
}

// same compares a column's value with the truth's. Postgres keeps microseconds, and no text holds U+0000.
func same(got, want any) bool {
	switch want := want.(type) {
	case nil:
		return got == nil
	case string:
		text, ok := got.(string)
		return ok && text == storable(want)
	case bool:
		return got == want
	case json.Number:
		number, ok := got.(pgtype.Numeric)
		if !ok {
			return false
		}
		text, err := number.Value()
		if err != nil {
			return false
		}
		a, okA := new(big.Rat).SetString(fmt.Sprint(text))
		b, okB := new(big.Rat).SetString(want.String())
		return okA && okB && a.Cmp(b) == 0
	case time.Time:
		at, ok := got.(time.Time)
		return ok && at.Sub(want).Abs() <= time.Microsecond
	case []string:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return false
		}
		for i := range want {
			if list[i] != want[i] {
				return false
			}
		}
		return true
	}
	return false
}

// storable puts U+FFFD in place of what no Postgres text can hold: U+0000, and lone surrogates, which the truth spells as
// three bytes each (not valid UTF-8, so regexp cannot match them).
func storable(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == 0:
			b.WriteRune('\uFFFD')
		case text[i] == 0xED && i+2 < len(text) && text[i+1] >= 0xA0:
			b.WriteRune('\uFFFD')
			i += 2
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func show(value any) string {
	switch value := value.(type) {
	case pgtype.Numeric:
		text, _ := value.Value() // an invalid number shows as nothing
		return fmt.Sprint(text)
	case time.Time:
		return value.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%#v", value)
}
