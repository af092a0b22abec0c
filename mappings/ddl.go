package mappings

import (
	"fmt"
	"slices"
	"strings"
)

// DDL returns the statements, with unqualified names, that the mapping adds to those of the migrations. They only add: a column
// that the mapping no longer fills stays, empty, for the views that use it.
func (m *Mapping) DDL() []string {
	statements := m.NewColumns()
	for _, kind := range Kinds {
		statements = append(statements, m.tables[kind].Triggers()...)
	}
	return statements
}

// NewColumns returns the statements that add columns to the tables and their histories.
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

// Triggers returns the statements that install the triggers for the table's history, none if it is off.
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
