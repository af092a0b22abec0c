package verify

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// mapping is what the customer's file makes of a table.
func (v *verifier) mapping(t *table) *mappings.Table {
	return v.options.Mapping.Table(mappings.Kind(t.name))
}

// mapped leaves of what LeadGrid told what may land here.
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
	if err != nil { // which no decoded JSON gives
		return told
	}
	return decode(text)
}

// own are the columns that a customer's file fills from a field of another name.
func own(column mappings.Column) bool { return column.Field != column.Name }

// withoutOwn leaves of a table's columns those that a field of the same name fills: a column that nothing fills any more stays
// for the views that use it, and empty.
func (v *verifier) withoutOwn(t *table) {
	for name := range v.columns[t] {
		filled := slices.ContainsFunc(v.mapping(t).Columns, func(c mappings.Column) bool { return c.Name == name && !own(c) })
		if !filled && !strings.HasPrefix(name, "_") {
			delete(v.columns[t], name)
		}
	}
}

// differingOwn lists the customer's own columns in which a row differs from what LeadGrid told.
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

// columnTypes are the types as Postgres names them.
var columnTypes = map[mappings.Type]string{
	mappings.Text: "text", mappings.TextArray: "text[]", mappings.Numeric: "numeric", mappings.Boolean: "boolean",
	mappings.TimestampTZ: "timestamp with time zone", mappings.JSONB: "jsonb",
}
