package verify

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// mapping returns the customer's mapping of a table.
func (v *verifier) mapping(t *table) *mappings.Table {
	return v.options.Mapping.Table(mappings.Kind(t.name))
}

// mapped reduces an object to what the mapping lets into the mirror.
func (v *verifier) mapped(t *table, told object) object {
	if !v.mapping(t).Strict() {
		return told
	}
	text, err := json.Marshal(told)
	var fields mappings.Object
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err == nil {
		text, err = json.Marshal(v.mapping(t).Shape(fields))
	}
	if err != nil { // impossible: it was decoded from JSON
		return told
	}
	return decode(text)
}

// own reports whether the customer's mapping fills the column from a field of another name.
func own(column mappings.Column) bool { return column.Field != column.Name }

// withoutOwn drops from a table's columns those that no field of the same name fills: the customer's own, and those that nothing
// fills any more, which stay empty for the views that use them.
func (v *verifier) withoutOwn(t *table) {
	for name := range v.columns[t] {
		filled := slices.ContainsFunc(v.mapping(t).Columns, func(c mappings.Column) bool { return c.Name == name && !own(c) })
		if !filled && !strings.HasPrefix(name, "_") {
			delete(v.columns[t], name)
		}
	}
}

// differingOwn lists the customer's own columns in which a row differs from what LeadGrid showed.
func (v *verifier) differingOwn(t *table, told object, have row) (fields []string) {
	for _, column := range v.mapping(t).Columns {
		value, ok := any(map[string]any(told)), true
		for part := range strings.SplitSeq(column.Field, ".") {
			inside, _ := value.(map[string]any)
			if value, ok = inside[part]; !ok {
				break
			}
		}
		if own(column) && ok && !sameColumn(columnTypes[column.Type], value, have[column.Name]) {
			fields = append(fields, column.Name)
		}
	}
	return fields
}

// columnTypes maps the mapping's types to Postgres's names for them.
var columnTypes = map[mappings.Type]string{
	mappings.Text: "text", mappings.TextArray: "text[]", mappings.Numeric: "numeric", mappings.Boolean: "boolean",
	mappings.TimestampTZ: "timestamp with time zone", mappings.JSONB: "jsonb",
}
