package mappings

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// YAML returns the effective mapping, as a file that Parse accepts.
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

// Digest identifies the mapping: two with the same digest write the same. It is empty for the default.
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
	mac := hmac.New(sha256.New, m.hashKey) // another key makes another mapping
	mac.Write([]byte(b.String()))
	return hex.EncodeToString(mac.Sum(nil))
}
