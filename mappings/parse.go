package mappings

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fixed are the fields that keys, the order of reads and the stage history depend on: no rule may change them.
var fixed = []string{
	"id", "dossier_id", "contact_id", "flow_id", "organization_id", "current_stage_id", "updated_at", "pool", "dossier_count",
}

var columnName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,58}$`)

// Parse lays a customer's file over the default mapping. The error lists every mistake in it, with line and column. hashKey is the
// key for fields that are hashed, empty if there is none.
func Parse(text []byte, hashKey string) (*Mapping, error) {
	m := Default()
	m.hashKey = []byte(hashKey)
	for _, table := range m.tables {
		table.hashKey = m.hashKey
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	p := &overlay{mapping: m}
	for _, document := range file.Docs {
		if document.Body != nil {
			p.tables(document.Body)
		}
	}
	if len(p.mistakes) > 0 {
		slices.SortStableFunc(p.mistakes, func(a, b mistake) int { return cmp.Compare(a.line, b.line) })
		var lines []string
		for _, mistake := range p.mistakes {
			lines = append(lines, fmt.Sprintf("line %d, column %d: %s", mistake.line, mistake.column, mistake.text))
		}
		return nil, errors.New(strings.Join(lines, "\n"))
	}
	m.followContacts()
	return m, nil
}

// overlay applies a customer's file to the default mapping, and collects its mistakes.
type overlay struct {
	mapping  *Mapping
	mistakes []mistake
}

type mistake struct {
	line, column int
	text         string
}

func (p *overlay) wrong(node ast.Node, format string, args ...any) {
	at := node.GetToken().Position
	p.mistakes = append(p.mistakes, mistake{at.Line, at.Column, fmt.Sprintf(format, args...)})
}

// entries returns the keys and values of a YAML mapping. For anything else it reports what as a mistake.
func (p *overlay) entries(node ast.Node, what string) []*ast.MappingValueNode {
	switch node := node.(type) {
	case *ast.MappingNode:
		return node.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}
	case *ast.NullNode:
		return nil
	}
	p.wrong(node, "%s", what)
	return nil
}

func (p *overlay) tables(body ast.Node) {
	for _, entry := range p.entries(body, "the file names tables: write `contacts:`, and below it what is different") {
		kind := Kind(nameOf(entry.Key))
		table := p.mapping.tables[kind]
		if table == nil {
			p.wrong(entry.Key, "there is no table %q: it is one of %s", kind, list(Kinds))
			continue
		}
		var raw ast.Node
		for _, section := range p.entries(entry.Value, "below a table stand "+sections) {
			switch name := nameOf(section.Key); name {
			case "fields":
				for _, field := range p.entries(section.Value, "fields: names fields, each with leave out, hash or domain") {
					p.field(table, field)
				}
			case "columns":
				for _, column := range p.entries(section.Value, "columns: names columns, each with a type, with none, or with {from: field, type: type}") {
					p.column(table, column)
				}
			case "raw":
				table.Raw = Raw(nameOf(section.Value))
				if !slices.Contains(raws, table.Raw) {
					p.wrong(section.Value, "raw: is all, mapped (_raw holds only what columns hold) or drop (it holds nothing), not %q", table.Raw)
				}
				raw = section.Value
			case "history":
				history := nameOf(section.Value)
				table.History = history == "on" || history == "true"
				if !table.History && history != "off" && history != "false" {
					p.wrong(section.Value, "history: is on (every version of a row is kept) or off, not %q", history)
				}
			case "key":
				p.wrong(section.Key, "the key of %s stays as it is", kind)
			default:
				p.wrong(section.Key, "%q means nothing here: below a table stand %s", name, sections)
			}
		}
		if table.Raw == RawDrop {
			p.rebuildable(table, raw)
		}
	}
}

// sections lists what may stand below a table, for messages.
const sections = "fields:, columns:, raw: and history:"

var raws = []Raw{RawAll, RawMapped, RawDrop}

// rebuildable reports columns from which the object cannot be rebuilt. Without _raw, the rebuilt object is what a thinner list's
// row is merged with.
func (p *overlay) rebuildable(table *Table, raw ast.Node) {
	for i, a := range table.Columns {
		for _, b := range table.Columns[i+1:] {
			switch {
			case a.Field == b.Field && a.Type != b.Type:
				p.wrong(raw, "raw: drop does not go with two columns of different types from one field: %s.%s and %s both come from %s",
					table.Kind, a.Name, b.Name, a.Field)
			case strings.HasPrefix(a.Field, b.Field+"."), strings.HasPrefix(b.Field, a.Field+"."):
				p.wrong(raw, "raw: drop does not go with a column that lies inside another one: %s.%s comes from %s, and %s from %s",
					table.Kind, a.Name, a.Field, b.Name, b.Field)
			}
		}
	}
}

func (p *overlay) field(table *Table, entry *ast.MappingValueNode) {
	field, keep := nameOf(entry.Key), Keep(nameOf(entry.Value))
	switch {
	case slices.Contains(fixed, field):
		p.wrong(entry.Key, "%s.%s stays as it is: the mirror needs it", table.Kind, field)
	case !slices.Contains(strictness, keep):
		p.wrong(entry.Value, "%s.%s: %q is none of leave out, hash, domain", table.Kind, field, keep)
	case keep == Hash && len(p.mapping.hashKey) < 16:
		p.wrong(entry.Value, "%s.%s is to be hashed: set LEADGRID_HASH_KEY, to 16 characters or more", table.Kind, field)
	default:
		table.Rules = append(table.Rules, Rule{field, keep})
	}
}

func (p *overlay) column(table *Table, entry *ast.MappingValueNode) {
	column := Column{Name: nameOf(entry.Key)}
	column.Field = column.Name
	if _, plain := entry.Value.(ast.ScalarNode); plain {
		column.Type = Type(nameOf(entry.Value))
	} else {
		for _, part := range p.entries(entry.Value, "a column is a type, none, or {from: field, type: type}") {
			switch nameOf(part.Key) {
			case "from":
				column.Field = nameOf(part.Value)
			case "type":
				column.Type = Type(nameOf(part.Value))
			default:
				p.wrong(part.Key, "a column has from: and type:, not %q", nameOf(part.Key))
			}
		}
	}
	i := slices.IndexFunc(table.Columns, func(c Column) bool { return c.Name == column.Name })
	switch {
	case slices.Contains(fixed, column.Name):
		p.wrong(entry.Key, "%s.%s stays as it is: the mirror needs it", table.Kind, column.Name)
	case column.Name == "valid_from", column.Name == "valid_to":
		p.wrong(entry.Key, "%s.%s is a column of every table's history: give yours another name", table.Kind, column.Name)
	case !columnName.MatchString(column.Name):
		p.wrong(entry.Key, "%q is no name for a column: use lower-case letters, digits and _, and begin with a letter", column.Name)
	case column.Type == "none":
		if i < 0 {
			p.wrong(entry.Key, "%s has no column %q that could be none", table.Kind, column.Name)
			return
		}
		table.Columns = slices.Delete(table.Columns, i, i+1)
	case !column.Type.valid():
		p.wrong(entry.Value, "%s.%s: %q is no type: it is one of %s, or none", table.Kind, column.Name, column.Type, list(types))
	case i >= 0 && table.Columns[i].Type != column.Type:
		p.wrong(entry.Value, "%s.%s is %s and cannot become %s, views may use it: give the new column another name",
			table.Kind, column.Name, table.Columns[i].Type, column.Type)
	case i >= 0:
		table.Columns[i] = column
	default:
		table.Columns = append(table.Columns, column)
	}
}

// followContacts applies the rules for contacts to the copies of a contact's fields in links.
func (m *Mapping) followContacts() {
	links := m.tables[Links]
	for _, rule := range m.tables[Contacts].Rules {
		own := slices.ContainsFunc(links.Rules, func(r Rule) bool { return r.Field == rule.Field })
		if !own && links.Documented(rule.Field) {
			links.Rules = append(links.Rules, rule)
		}
	}
}

// nameOf returns a scalar's value, and for anything else its source text.
func nameOf(node ast.Node) string {
	if text, ok := node.(*ast.StringNode); ok {
		return text.Value
	}
	return strings.TrimSpace(node.String())
}

func list[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}
