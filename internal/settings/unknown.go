package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// prefixes belong to us: a variable that starts with one of them but is not a setting is a mistake.
var prefixes = []string{"LEADGRID_", "SWEEP_", "RETENTION_", "WRITEBACK_"}

// serviceLink matches what Kubernetes sets for each service in the namespace: one named leadgrid-sync gives
// LEADGRID_SYNC_SERVICE_HOST, LEADGRID_SYNC_PORT_8080_TCP_ADDR and more.
var serviceLink = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// unknown reports the variables that look like settings but are not. known lists the settings of every program, as programs
// often share an environment.
func unknown(environ []string, known []Setting) []string {
	var names []string
	for _, setting := range known {
		names = append(names, setting.Name, setting.Name+fileSuffix)
	}
	var problems []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		ours := slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if !ours || slices.Contains(names, name) || serviceLink.MatchString(name) {
			continue
		}
		problem := name + " is not a setting"
		if near := nearest(name, names); near != "" {
			problem += fmt.Sprintf(": did you mean %s?", near)
		} else {
			problem += ": remove it"
		}
		problems = append(problems, problem)
	}
	slices.Sort(problems)
	return problems
}

// nearest returns the most similar name, "" if all differ in more than a third of their letters.
func nearest(name string, names []string) string {
	best, found := len(name)/3+1, ""
	for _, candidate := range names {
		if d := distance(name, candidate); d < best {
			best, found = d, candidate
		}
	}
	return found
}

// distance is the Levenshtein distance between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			exchange := diagonal
			if a[i] != b[j] {
				exchange++
			}
			diagonal = row[j+1]
			row[j+1] = min(exchange, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
