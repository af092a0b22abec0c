package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// TestSettingsAreDocumented keeps the one table of settings true: with UPDATE_DOCS=1 it writes it.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../docs/operations.md", "<!-- settings -->\n", "<!-- /settings -->\n"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(content), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s lacks the marks around its table of settings", path)
	}
	want := settingsTable()
	if table == want {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("the table of settings in %s is not what the programs take: run UPDATE_DOCS=1 go test ./cmd/worker -run %s", path, t.Name())
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// settingsTable lists what each program takes, in Markdown.
func settingsTable() string {
	run := newRunConfig()
	programs := []struct {
		name string
		spec any
	}{
		{"receiver", &struct {
			settings.Database
			settings.Webhook
			settings.Listen
			settings.Mappings
			Admin   settings.Admin
			Tracing settings.Tracing
			settings.Log
		}{Admin: settings.Admin{Addr: ":9090"}}},
		{"worker run", &run},
		{"sync, verify", &mirrorConfig{}},
		{"other commands", &databaseConfig{}},
	}
	type row struct {
		settings.Setting
		defaults, users []string
	}
	var rows []*row
	for _, program := range programs {
		for _, setting := range settings.List(program.spec) {
			i := slices.IndexFunc(rows, func(r *row) bool { return r.Name == setting.Name })
			if i < 0 {
				i = len(rows)
				rows = append(rows, &row{Setting: setting})
			}
			rows[i].users = append(rows[i].users, program.name)
			if setting.Default != "" && !slices.Contains(rows[i].defaults, setting.Default) {
				rows[i].defaults = append(rows[i].defaults, setting.Default)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return strings.Compare(a.Name, b.Name) })
	var table strings.Builder
	table.WriteString("| setting | default | used by | what |\n|---|---|---|---|\n")
	for _, r := range rows {
		shown := "`" + strings.Join(r.defaults, "` (receiver), `") + "`"
		switch {
		case r.Required:
			shown = "required"
		case len(r.defaults) == 0:
			shown = ""
		case len(r.defaults) == 2:
			shown += " (worker)"
		}
		users := strings.Join(r.users, ", ")
		if len(r.users) == len(programs) {
			users = "all"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", r.Name, shown, users, r.Description)
	}
	return table.String()
}
