package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.run(t, "status").want(t, 0, "none yet: run `worker sync`")

	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	if _, err := w.pool.Exec(t.Context(),
		`INSERT INTO sync_flushes (flush, events, received_at) VALUES (1000001, 1200, now() - '5 min'::interval), (1000002, 34, now())`); err != nil {
		t.Fatal(err)
	}
	w.run(t, "sync", "--wait", "notes", "links").want(t, 0, equal)
	text := w.run(t, "status")
	for _, line := range []string{
		`(?m)^dossiers +60 +0 +\S+ \S+Z \(\d+s ago\)$`,
		`(?m)^dossier_contacts +\d+ +0 `,
		`(?m)^events +1,234 waiting, the oldest since .* \(5m\ds ago\)$`,
		`(?m)^sweep 2 +full of notes, links, done .*: \d+ requests, \d+ rows changed, 0 marked as deleted$`,
		`(?m)^API budget +[\d,]+ of 1,000,000 requests left `,
	} {
		if !regexp.MustCompile(line).MatchString(text.out) {
			t.Errorf("no line like %s in\n%s", line, text.out)
		}
	}
	if text.code != 0 || text.errs != "" || strings.Contains(text.out, "PAUSED") {
		t.Errorf("ended with %d: %s%s", text.code, text.out, text.errs)
	}

	var got status
	if err := json.Unmarshal([]byte(w.run(t, "status", "--json").out), &got); err != nil {
		t.Fatal(err)
	}
	truth := w.Snapshot()
	for i, kind := range mappings.Kinds {
		table := got.Tables[i]
		if table.Table != string(kind) || int(table.Rows) != len(truth[string(kind)]) || table.Deleted != 0 ||
			table.CompleteAsOf == nil || time.Since(*table.CompleteAsOf) > time.Minute {
			t.Errorf("%s: %+v", kind, table)
		}
	}
	if got.Events.Waiting != 1234 || got.Events.Oldest == nil {
		t.Errorf("events: %+v", got.Events)
	}
	if len(got.Sweeps) != 1 || got.Sweeps[0].State != "done" || got.API.Limit != 1_000_000 || len(got.Pauses) != 0 {
		t.Errorf("sweeps, API, pauses: %+v", got)
	}
}

func TestSettingsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	w := &world{env: map[string]string{
		"LEADGRID_SCHEMA": "No Good", "SWEEP_INTERVAL": "often", "LOG_FORMAT": "xml", "ADMIN_ADDR": "here", "LEADGRID_KEY": "x",
		"DATABASE_MAX_CONNS": "many",
	}}
	got := w.run(t, "run")
	for _, want := range []string{
		"DATABASE_URL is missing", "LEADGRID_API_KEY is missing", `SWEEP_INTERVAL: "often" is neither off nor a duration`,
		`LOG_FORMAT: "xml"`, `ADMIN_ADDR: "here"`, "LEADGRID_KEY is not a setting", `DATABASE_MAX_CONNS: "many"`,
	} {
		got.want(t, exitUsage, want)
	}
	// Each command asks only for what it needs.
	w.env = nil
	for command, needs := range map[string]int{"run": 2, "sync": 2, "status": 1, "migrate": 1, "mappings": 0} {
		got := w.run(t, command)
		if n := strings.Count(got.errs, "is missing"); n != needs {
			t.Errorf("%s misses %d settings, want %d:\n%s", command, n, needs, got.errs)
		}
	}
}

func TestCalledWrongly(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.run(t, "mirror").want(t, exitUsage, `unknown command "mirror" for "worker"`)
	w.run(t, "status", "--yaml").want(t, exitUsage, "unknown flag: --yaml")
	w.run(t, "status", "now").want(t, exitUsage, `unknown command "now" for "worker status"`)
	w.run(t, "--version").want(t, 0, "worker version "+build.Read().Version)
	w.run(t, "mappings").want(t, 0, "dossier_contacts:\n")
	w.run(t, "sync", "--help").want(t, 0, "130  interrupted")
}
