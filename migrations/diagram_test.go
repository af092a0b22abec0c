package migrations_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
)

const dataModel = "../docs/data-model.md"

// TestDiagramIsDrawnFromTheDatabase keeps the diagram of the tables true: with UPDATE_DOCS=1 it draws it.
func TestDiagramIsDrawnFromTheDatabase(t *testing.T) {
	const begin, end = "```mermaid\n", "```\n"
	content, err := os.ReadFile(dataModel)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(content), begin)
	drawn, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no diagram", dataModel)
	}
	want := diagram(t)
	if drawn == want {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("the diagram in %s is not what the database has: run UPDATE_DOCS=1 go test ./migrations -run %s", dataModel, t.Name())
	}
	if err := os.WriteFile(dataModel, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// points tells from a column's name which table it points to. There are no foreign keys: a row never waits for another.
var points = regexp.MustCompile(`^(?:current_)?(flow|stage|dossier|contact)_id$`)

// diagram draws the tables that are not our own bookkeeping. A table's history has its columns, and is left out.
func diagram(t *testing.T) string {
	pool := pgtest.New(t)
	rows, err := pool.Query(t.Context(), `
		SELECT c.relname, a.attname, replace(format_type(a.atttypid, NULL), 'timestamp with time zone', 'timestamptz'),
		       coalesce(a.attnum = ANY (i.indkey), false)
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND left(a.attname, 1) <> '_'
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relnamespace = 'leadgrid'::regnamespace AND c.relkind = 'r' AND c.relname !~ '^(sync|command)_'
		  AND coalesce(to_regclass(quote_ident(regexp_replace(c.relname, '_history$', ''))), c.oid) = c.oid
		ORDER BY c.relname COLLATE "C", a.attnum`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct {
		Table, Name, Type string
		Key               bool
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		t.Fatal(err)
	}
	var lines, tables strings.Builder
	for i, c := range columns {
		if i == 0 || columns[i-1].Table != c.Table {
			fmt.Fprintf(&tables, "    %s {\n", c.Table)
		}
		key := ""
		if c.Key {
			key = " PK"
		}
		fmt.Fprintf(&tables, "        %s %s%s\n", strings.NewReplacer("[]", "_array", " ", "_").Replace(c.Type), c.Name, key)
		if i == len(columns)-1 || columns[i+1].Table != c.Table {
			tables.WriteString("    }\n")
		}
		if to := points.FindStringSubmatch(c.Name); to != nil {
			fmt.Fprintf(&lines, "    %ss ||--o{ %s : %s\n", to[1], c.Table, c.Name)
		}
	}
	return "erDiagram\n" + lines.String() + tables.String()
}

// TestEveryViewIsDocumented finds a query of every view that is not bookkeeping, with its answer, where analysts look.
func TestEveryViewIsDocumented(t *testing.T) {
	var docs []string
	for _, path := range []string{dataModel, "../docs/write-back.md"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, strings.Split(string(content), "```")...)
	}
	for _, view := range list(t, pgtest.New(t), `SELECT viewname FROM pg_views WHERE schemaname = 'leadgrid' AND left(viewname, 5) <> 'sync_' ORDER BY 1`) {
		answered := slices.ContainsFunc(docs, func(block string) bool {
			query, answer, _ := strings.Cut(block, ";\n")
			return strings.HasPrefix(block, "sql\n") && strings.Contains(query, "leadgrid."+view) && strings.Contains(answer, "-+-")
		})
		if !answered {
			t.Errorf("no query of %s with an answer", view)
		}
	}
}
