package mappings

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fixed are the fields that keys, the order of reads and the stage history rest on: no rule may change them.
var fixed = []string{
	"id", "dossier_id", "contact_id", "flow_id", "organization_id", "current_stage_id", "updated_at", "pool", "dossier_count",
}

var columnName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,58}$`)

// Parse lays a customer's file over the default mapping. Every mistake in it is reported, with its line and column.
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

// overlay is a customer's file on its way over the default.
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

// entries gives the keys and values of a mapping.
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

// sections are what may stand below a table.
const sections = "fields:, columns:, raw: and history:"

var raws = []Raw{RawAll, RawMapped, RawDrop}

// rebuildable makes sure that the columns say what the object was: without _raw there is nothing else to merge with what a
// thinner list tells.
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

// followContacts holds the copies that links carry of a contact's fields to the contact's rules.
func (m *Mapping) followContacts() {
	links := m.tables[Links]
	for _, rule := range m.tables[Contacts].Rules {
		own := slices.ContainsFunc(links.Rules, func(r Rule) bool { return r.Field == rule.Field })
		if !own && links.Documented(rule.Field) {
			links.Rules = append(links.Rules, rule)
		}
	}
}

// nameOf gives a scalar's text, and of anything else what stands there.
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

// Digest is the same for two mappings that write the same, and empty for the default.
func (m *Mapping) Digest() string {
	var b strings.Builder
	plain := Default()
	for _, kind := range Kinds {
		table, columns := m.tables[kind], plain.tables[kind].Columns
		if table.Raw != RawAll {
			fmt.Fprintf(&b, "%s: %s\n", kind, table.Raw)
		}
		for _, rule := range table.Rules {
			fmt.Fprintf(&b, "%s: %q\n", kind, rule)
		}
		for _, column := range table.Columns {
			if !slices.Contains(columns, column) {
				fmt.Fprintf(&b, "%s: %q\n", kind, column)
			}
		}
		for _, column := range columns {
			if !slices.Contains(table.Columns, column) {
				fmt.Fprintf(&b, "%s: not %q\n", kind, column)
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, m.hashKey) // another key is another mapping
	mac.Write([]byte(b.String()))
	return hex.EncodeToString(mac.Sum(nil))
}

// DDL gives the statements, with unqualified names, that a mapping adds to what every mirror has. They are additive: a
// column that a mapping no longer fills stays, empty, for the views that use it.
func (m *Mapping) DDL() []string {
	statements := m.NewColumns()
	for _, kind := range Kinds {
		statements = append(statements, m.tables[kind].Triggers()...)
	}
	return statements
}

// NewColumns gives the statements that add columns, to the tables and their histories.
func (m *Mapping) NewColumns() (statements []string) {
	plain := Default()
	for _, kind := range Kinds {
		for _, column := range m.tables[kind].Columns {
			if slices.ContainsFunc(plain.tables[kind].Columns, func(c Column) bool { return c.Name == column.Name }) {
				continue
			}
			for _, table := range []string{string(kind), string(kind) + "_history"} {
				statements = append(statements, fmt.Sprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS %q %s", table, column.Name, column.Type))
			}
		}
	}
	return statements
}

// Triggers gives the statements that keep the table's history, none where it is off.
func (t *Table) Triggers() (statements []string) {
	if !t.History {
		return nil
	}
	for event, rows := range map[string]string{"INSERT": "NEW TABLE AS after", "UPDATE": "OLD TABLE AS before NEW TABLE AS after"} {
		statements = append(statements, fmt.Sprintf(
			"CREATE OR REPLACE TRIGGER history_of_%s AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION sync_keep_versions('%s')",
			strings.ToLower(event), event, t.Kind, rows, strings.Join(t.Key, "', '")))
	}
	slices.Sort(statements)
	return statements
}

// YAML writes the effective mapping, as a file that could be given again.
func (m *Mapping) YAML() string {
	var b strings.Builder
	for _, kind := range Kinds {
		table := m.tables[kind]
		fmt.Fprintf(&b, "%s:\n", kind)
		if table.Raw != RawAll {
			fmt.Fprintf(&b, "  raw: %s\n", table.Raw)
		}
		if table.History {
			b.WriteString("  history: on\n")
		}
		if len(table.Rules) > 0 {
			b.WriteString("  fields:\n")
		}
		for _, rule := range table.Rules {
			fmt.Fprintf(&b, "    %s: %s\n", rule.Field, rule.Keep)
		}
		b.WriteString("  columns:\n")
		for _, column := range table.Columns {
			if column.Field == column.Name {
				fmt.Fprintf(&b, "    %s: %s\n", column.Name, column.Type)
			} else {
				fmt.Fprintf(&b, "    %s: {from: %s, type: %s}\n", column.Name, column.Field, column.Type)
			}
		}
	}
	return b.String()
}
