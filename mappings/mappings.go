// Package mappings says which field of a LeadGrid object goes into which column, with which type. Everything that writes
// mirrored rows is driven by it.
//
// default.yaml is the default. A customer's file is laid over it (parse.go), may add columns (ddl.go), and may keep data out
// of the database (rules.go). types.go and storable.go fit values into Postgres.
package mappings

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Kind names a mirrored table, and the objects in it.
type Kind string

// The mirrored tables.
const (
	Flows    Kind = "flows"
	Stages   Kind = "stages"
	Dossiers Kind = "dossiers"
	Contacts Kind = "contacts"
	Links    Kind = "dossier_contacts"
	Notes    Kind = "notes"
)

// Kinds lists the mirrored tables, parents before children.
var Kinds = []Kind{Flows, Stages, Dossiers, Contacts, Links, Notes}

// Column is one column of a mirrored table.
type Column struct {
	Name  string
	Type  Type
	Field string // where its value is in the object: a field, or a path of fields joined by dots
}

// Raw says what the column _raw holds.
type Raw string

// What _raw may hold. Unless it is RawAll, fields that no column holds are left out wherever the object is stored.
const (
	RawAll    Raw = "all"    // the object as LeadGrid gave it, with all fields
	RawMapped Raw = "mapped" // only fields that columns hold
	RawDrop   Raw = "drop"   // nothing: only the columns are kept
)

// Table maps one kind of object.
type Table struct {
	Kind    Kind
	Key     []string
	Columns []Column
	Rules   []Rule // for fields that must not be kept as they are
	Raw     Raw
	History bool // whether every version of a row is kept

	hashKey []byte
}

// Mapping maps every kind.
type Mapping struct {
	tables  map[Kind]*Table
	hashKey []byte
}

//go:embed default.yaml
var defaultYAML []byte

// Default is the mapping that mirrors every documented field under its own name.
func Default() *Mapping {
	mapping, err := parse(defaultYAML)
	if err != nil {
		panic("mappings: the embedded default is broken: " + err.Error())
	}
	return mapping
}

// DefaultYAML returns the text of the default mapping, with its comments.
func DefaultYAML() string { return string(defaultYAML) }

// Table returns the mapping of one kind.
func (m *Mapping) Table(kind Kind) *Table { return m.tables[kind] }

func parse(text []byte) (*Mapping, error) {
	var file map[Kind]struct {
		Key     []string      `yaml:"key"`
		Columns yaml.MapSlice `yaml:"columns"`
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		return nil, err
	}
	mapping := &Mapping{tables: make(map[Kind]*Table, len(file))}
	for kind, entry := range file {
		if !slices.Contains(Kinds, kind) {
			return nil, fmt.Errorf("unknown table %q", kind)
		}
		table := &Table{Kind: kind, Key: entry.Key, Raw: RawAll}
		for _, column := range entry.Columns {
			columnType := Type(fmt.Sprint(column.Value))
			if !columnType.valid() {
				return nil, fmt.Errorf("%s.%s: unknown type %q", kind, column.Key, columnType)
			}
			table.Columns = append(table.Columns, Column{Name: fmt.Sprint(column.Key), Type: columnType, Field: fmt.Sprint(column.Key)})
		}
		mapping.tables[kind] = table
	}
	return mapping, nil
}

// Documented reports whether the table has a column for the field of that name.
func (t *Table) Documented(field string) bool {
	return slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Field == field })
}

// Row returns the object's values in the order of Columns, each in Postgres's text form, nil for null.
func (t *Table) Row(object Object) []*string {
	row := make([]*string, len(t.Columns))
	for i, column := range t.Columns {
		row[i] = column.Type.Convert(object.lookup(column.Field))
	}
	return row
}

// Object rebuilds an object from its row, as to_jsonb writes it. That is all there is of an object if _raw is not kept.
func (t *Table) Object(row Object) Object {
	object := make(Object, len(t.Columns))
	for _, column := range t.Columns {
		if value, ok := row[column.Name]; ok && string(value) != "null" {
			object.put(strings.Split(column.Field, "."), value)
		}
	}
	return object
}

// ID returns the object's key, one text per key column. ok is false if one is missing or neither string nor number.
func (t *Table) ID(object Object) (key []string, ok bool) {
	for _, name := range t.Key {
		value := Text.Convert(object[name])
		if value == nil || *value == "" {
			return nil, false
		}
		key = append(key, *value)
	}
	return key, true
}
