package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/verify"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// world is a LeadGrid and its mirror.
type world struct {
	*leadgridtest.Server
	pool *pgxpool.Pool
	api  *leadgridapi.Client
}

// mirrored makes a LeadGrid with these habits and mirrors it, as a worker does.
func mirrored(t *testing.T, habits leadgridtest.Habits) *world {
	t.Helper()
	w := &world{Server: leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{Habits: habits}}), pool: pgtest.New(t)}
	t.Cleanup(w.Close)
	w.Seed(leadgridtest.Size{Dossiers: 40, Contacts: 120, Links: 60, Notes: 80, Flows: 8, Odd: 0.1})
	var err error
	if w.api, err = leadgridapi.New(w.URL(), w.Key()); err != nil {
		t.Fatal(err)
	}
	engine, err := jobs.New(jobs.Config{
		Pool: w.pool, QueueSchema: pgtest.Schemas.Queue, API: w.api, Lag: 50 * time.Millisecond, NoSchedule: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := engine.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}()
	var id int64
	err = pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) (err error) {
		id, err = jobs.RequestSweep(t.Context(), tx, engine.River, sweep.Full, nil, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the sweep to be done", func() bool {
		s, err := sweep.Load(t.Context(), w.pool, id)
		if err != nil || s.Ended() && s.State != sweep.Done {
			t.Fatalf("the sweep ended as %s: %v", s.State, err)
		}
		return s.Ended()
	})
	return w
}

func (w *world) verify(t *testing.T, options verify.Options) *verify.Report {
	t.Helper()
	options.Pause = 10 * time.Millisecond
	report, err := verify.Run(t.Context(), w.pool, w.api, options)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	tag, err := w.pool.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	if tag.RowsAffected() == 0 {
		t.Fatalf("%s changed nothing", sql)
	}
}

// lines writes findings so that they can be compared with other lists.
func lines(findings []verify.Finding) (all []string) {
	for _, f := range findings {
		all = append(all, strings.TrimSpace(fmt.Sprint(f.Table, " ", f.ID, " ", f.Problem, " ", strings.Join(f.Fields, ","))))
	}
	return all
}

// dump is what the plain comparison finds: which rows differ, without the fields.
func (w *world) dump(t *testing.T) []string {
	t.Helper()
	differences, err := oracle.Differences(t.Context(), w.pool, oracle.Truth(w.Snapshot()), oracle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`^(\w+) "([^"]*)": (missing|extra|.* is )`)
	var rows []string
	for _, difference := range differences {
		parts := pattern.FindStringSubmatch(difference)
		if parts == nil {
			t.Fatalf("the oracle said %q", difference)
		}
		problem := parts[3]
		if strings.HasSuffix(problem, " is ") {
			problem = verify.Different
		}
		rows = append(rows, parts[1]+" "+parts[2]+" "+problem)
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

func TestAnEqualMirrorShowsNothing(t *testing.T) {
	for name, habits := range map[string]leadgridtest.Habits{
		"as documented": {UnknownFields: true, Timestamps: "mixed"},
		"thin lists":    {ListOmits: leadgridtest.ThinRows, OmitNulls: true, HideArchived: true, SubLists: "stuck"},
		"odd pages":     {Order: "unstable", PerPage: "fixed", PastEnd: "repeat", MetaTotal: "none", SubLists: "repeated", IDs: "awkward"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := mirrored(t, habits)
			if dump := w.dump(t); len(dump) > 0 {
				t.Fatalf("the mirror is not equal: %v", dump)
			}
			report := w.verify(t, verify.Options{})
			if len(report.Findings) > 0 {
				t.Errorf("found %q", lines(report.Findings))
			}
			for table, rows := range w.Snapshot() {
				if got := report.Tables[table].Compared; got != len(rows) {
					t.Errorf("compared %d of %d %s", got, len(rows), table)
				}
			}
		})
	}
}

// planted changes one live row that has a value in the column, and returns what should be found. Rows already changed are
// left alone.
func (w *world) planted(t *testing.T, table, column, change, problem, field string, used map[string]bool) string {
	t.Helper()
	id := "id"
	if table == "dossier_contacts" {
		id = "dossier_id || '|' || contact_id"
	}
	if column == "" {
		column = id
	}
	err := w.pool.QueryRow(t.Context(), `SELECT `+id+` FROM `+table+` WHERE _deleted_at IS NULL AND (`+column+`) IS NOT NULL
		AND NOT `+id+` = ANY ($1) ORDER BY random() LIMIT 1`, slices.AppendSeq([]string{}, maps.Keys(used))).Scan(&id)
	if err != nil {
		t.Fatalf("pick one of %s: %v", table, err)
	}
	used[id] = true
	key := "id"
	if table == "dossier_contacts" {
		key = "dossier_id || '|' || contact_id"
	}
	w.exec(t, change+` WHERE `+key+` = $1`, id)
	return strings.TrimSpace(table + " " + id + " " + problem + " " + field)
}

func TestPlantedDifferencesAreFound(t *testing.T) {
	w := mirrored(t, leadgridtest.Habits{UnknownFields: true})
	changes := map[string]string{
		"text": `coalesce(%[1]s, '') || 'x'`, "numeric": `%[1]s + 0.000000000000000001`, "boolean": `NOT %[1]s`,
		"text[]": `%[1]s || '{client}'`, "timestamp with time zone": `%[1]s + interval '1 ms'`,
	}
	var want, dumped []string
	used := make(map[string]bool)
	for table, columns := range map[string]map[string]string{
		"flows":  {"name": "text", "is_default": "boolean"},
		"stages": {"name": "text", "position": "numeric", "win_probability": "numeric"},
		"dossiers": {
			"name": "text", "email": "text", "city": "text", "deal_size": "numeric", "status": "text", "current_stage_id": "text",
			"assigned_to": "text", "created_at": "timestamp with time zone", "updated_at": "timestamp with time zone",
		},
		"contacts": {
			"full_name": "text", "phone": "text", "kind": "text[]", "dossier_count": "numeric", "pool": "text",
			"created_at": "timestamp with time zone",
		},
		"dossier_contacts": {"role_on_dossier": "text", "is_primary": "boolean", "full_name": "text"},
		"notes":            {"content": "text", "is_internal": "boolean", "created_at": "timestamp with time zone"},
	} {
		for column, columnType := range columns {
			change := fmt.Sprintf(`UPDATE `+table+` SET %[1]s = `+changes[columnType], column)
			want = append(want, w.planted(t, table, column, change, verify.Different, column, used))
			dumped = append(dumped, strings.TrimSuffix(want[len(want)-1], " "+column))
			if columnType == "text" && column != "name" {
				change := `UPDATE ` + table + ` SET ` + column + ` = NULL`
				want = append(want, w.planted(t, table, column, change, verify.Different, column, used))
				dumped = append(dumped, strings.TrimSuffix(want[len(want)-1], " "+column))
			}
		}
		for _, change := range []string{`UPDATE ` + table + ` SET _deleted_at = now()`, `DELETE FROM ` + table} {
			want = append(want, w.planted(t, table, "", change, verify.Missing, "", used))
			dumped = append(dumped, want[len(want)-1])
		}
		change := `UPDATE ` + table + ` SET _raw = jsonb_set(_raw, '{x_score}', '1')`
		want = append(want, w.planted(t, table, "", change, verify.Different, "_raw.x_score", used))
		change = `UPDATE ` + table + ` SET _raw = _raw - 'x_tags'`
		want = append(want, w.planted(t, table, "", change, verify.Different, "_raw.x_tags", used))
	}
	for _, extra := range []string{
		`INSERT INTO dossiers (id) VALUES ('extra')`, `INSERT INTO contacts (id) VALUES ('extra')`, `INSERT INTO flows (id) VALUES ('extra')`,
		`INSERT INTO stages (id, flow_id) VALUES ('extra', 'extra')`, `INSERT INTO notes (id, dossier_id) VALUES ('extra', 'extra')`,
		`INSERT INTO dossier_contacts (dossier_id, contact_id) VALUES ('extra', 'extra')`,
	} {
		w.exec(t, extra)
		table := strings.Fields(extra)[2]
		id := "extra"
		if table == "dossier_contacts" {
			id = "extra|extra"
		}
		want = append(want, table+" "+id+" extra")
		dumped = append(dumped, want[len(want)-1])
	}
	slices.Sort(want)
	slices.Sort(dumped)
	got := lines(w.verify(t, verify.Options{}).Findings)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := w.dump(t); !slices.Equal(got, dumped) {
		t.Errorf("the plain dump shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(dumped, "\n"))
	}
}

// What LeadGrid changed and the mirror has not heard of is found, row for row as the plain dump finds it.
func TestFindsWhatThePlainDumpFinds(t *testing.T) {
	for _, habits := range []leadgridtest.Habits{{}, {ListOmits: leadgridtest.ThinRows}} {
		w := mirrored(t, habits)
		w.Stir(25)
		var got []string
		for _, finding := range w.verify(t, verify.Options{}).Findings {
			if !slices.Equal(finding.Fields, []string{"_raw.stages"}) { // stages have a table of their own in the dump
				got = append(got, finding.Table+" "+finding.ID+" "+finding.Problem)
			}
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if want := w.dump(t); len(want) < 10 || len(want) >= 100 || !slices.Equal(got, want) {
			t.Errorf("found\n%s\nthe plain dump finds\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestASampleReadsLess(t *testing.T) {
	w := mirrored(t, leadgridtest.Habits{})
	all, some := w.verify(t, verify.Options{}), w.verify(t, verify.Options{Sample: 10})
	if len(some.Findings) > 0 || !some.Sampled || some.Requests > all.Requests/2 {
		t.Errorf("%d requests for a sample, %d for all; found %q", some.Requests, all.Requests, lines(some.Findings))
	}
	w.exec(t, `UPDATE notes SET content = 'x'`)
	if got := w.verify(t, verify.Options{Sample: 100}).Findings; len(got) == 0 {
		t.Error("a sample of 100 dossiers saw none of all their notes changed")
	}
}

func TestErasedRowsAreCountedApart(t *testing.T) {
	w := mirrored(t, leadgridtest.Habits{})
	if _, err := w.pool.Exec(t.Context(), `ALTER TABLE contacts ADD COLUMN IF NOT EXISTS _erased_at timestamptz`); err != nil {
		t.Fatal(err)
	}
	w.exec(t, `UPDATE contacts SET _erased_at = now(), full_name = NULL, pool = NULL, _raw = NULL
		WHERE id = (SELECT id FROM contacts WHERE pool IS NOT NULL LIMIT 1)`)
	report := w.verify(t, verify.Options{Looks: 1})
	if len(report.Findings) > 0 || report.Tables["contacts"].Erased != 1 {
		t.Errorf("found %q, counted %+v", lines(report.Findings), report.Tables["contacts"])
	}
}

func TestWhatCannotBeToldIsAnError(t *testing.T) {
	w := mirrored(t, leadgridtest.Habits{})
	run := func(want error) {
		t.Helper()
		if _, err := verify.Run(t.Context(), w.pool, w.api, verify.Options{Pause: time.Millisecond}); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	other := w.NewOrganization()
	other.Seed(leadgridtest.Size{Dossiers: 5, Contacts: 5})
	w.SetKey(w.Key(), other)
	run(verify.ErrOtherOrganization)
	w.SetKey(w.Key(), w.Organization, "flows:read", "dossiers:read")
	run(leadgridapi.ErrForbidden)
	w.RevokeKey(w.Key())
	run(leadgridapi.ErrUnauthorized)
}

func TestPromise14_NoValueIsReported(t *testing.T) {
	w := mirrored(t, leadgridtest.Habits{})
	w.exec(t, `UPDATE contacts SET full_name = 'Secret Person', email = 'secret@example.org'`)
	report, err := json.Marshal(w.verify(t, verify.Options{Looks: 1}))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(report), "full_name") || strings.Contains(strings.ToLower(string(report)), "secret") {
		t.Errorf("reported %.500s", report)
	}
	for _, fields := range w.Snapshot()["contacts"] {
		if name := fields["full_name"].(string); strings.Contains(string(report), name) {
			t.Errorf("the report names %q", name)
		}
	}
}
