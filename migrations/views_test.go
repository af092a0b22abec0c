package migrations_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// office is a small agency whose views can be worked out by hand. All times are relative to the transaction's now().
const office = `
INSERT INTO flows (id, name, type) VALUES ('f1', 'Sales', 'sales'), ('f2', 'Hiring', 'candidate');
INSERT INTO stages (id, flow_id, name, position, deadline_days, win_probability) VALUES
    ('lead', 'f1', 'Lead', 1, 2, 10), ('offer', 'f1', 'Offer', 2, 5, 50), ('deal', 'f1', 'Deal', 3, NULL, NULL),
    ('intake', 'f2', 'Intake', 1, 1e400, 200);
INSERT INTO dossiers (id, type, name, status, flow_id, current_stage_id, deal_size, deal_currency, created_at) VALUES
    ('exact', 'sales', 'Exact', 'active', 'f1', 'offer', 1000.10, 'EUR', now() - interval '20 days'),
    ('vague', 'sales', 'Vague', 'active', 'f1', 'lead', 200, 'EUR', now() - interval '9 days'),
    ('sure', 'sales', 'Sure', 'frozen', 'f1', 'lead', NULL, 'USD', now() - interval '9 days'),
    ('won', 'sales', 'Won', 'won', 'f1', 'deal', 5000, 'EUR', now() - interval '30 days'),
    ('nobody', 'candidate', 'Nobody', 'active', 'f2', 'intake', NULL, NULL, NULL),
    ('lost', 'sales', 'Lost', 'lost', 'f1', 'lead', 70, 'USD', now() - interval '40 days'),
    ('last', 'sales', 'Last', NULL, 'f1', 'deal', 9, 'USD', now() - interval '8 days'),
    ('elsewhere', 'sales', 'Stage unknown', 'active', 'f9', 'never seen', NULL, NULL, now() - interval '1 day');
INSERT INTO dossiers (id, type, status, current_stage_id, deal_size, _deleted_at) VALUES ('gone', 'sales', 'active', 'lead', 1, now());
INSERT INTO dossier_stage_history (dossier_id, stage_id, entered_at, entered_after, entered_before, source) VALUES
    ('exact', 'lead', now() - interval '20 days', NULL, NULL, 'event'),
    ('exact', 'offer', now() - interval '8 days', NULL, NULL, 'event'),
    ('vague', 'lead', NULL, NULL, now() - interval '1 day', 'observed'),
    ('sure', 'lead', NULL, now() - interval '4 days', now() - interval '3 days', 'observed'),
    ('won', 'lead', NULL, NULL, now() - interval '28 days', 'observed'),
    ('won', 'lead', NULL, now() - interval '28 days', now() - interval '27 days', 'observed'),
    ('won', 'deal', now() - interval '18 days', NULL, NULL, 'event'),
    ('lost', 'offer', now() - interval '40 days', NULL, NULL, 'event'),
    ('lost', 'lead', now() - interval '38 days', NULL, NULL, 'event'),
    ('last', 'deal', now() - interval '6 hours', NULL, NULL, 'event');
INSERT INTO contacts (id, full_name, email, pool, created_at) VALUES
    ('busy', 'Busy Bee', 'busy@x.be', 'in_pool', now() - interval '900 days'),
    ('old', 'Old Hand', 'old@x.be', 'expired', now() - interval '3 days'),
    ('idle', 'Idle Hands', NULL, NULL, now() - interval '800 days'),
    ('noted', 'Noted One', NULL, NULL, now() - interval '800 days');
INSERT INTO contacts (id, full_name, pool, _deleted_at) VALUES ('left', 'Left', 'expired', now());
INSERT INTO contacts (id, pool, _erased_at) VALUES ('erased', 'expired', now());
INSERT INTO dossier_contacts (dossier_id, contact_id, role_on_dossier, is_primary) VALUES
    ('exact', 'busy', 'champion', true), ('lost', 'noted', 'other', false), ('vague', 'left', 'other', false);
INSERT INTO notes (id, dossier_id, content, created_at) VALUES ('n1', 'lost', 'rang', now() - interval '5 days');
`

func TestViewsAnswerWhatAPersonWouldWorkOut(t *testing.T) {
	pool := pgtest.New(t)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), office); err != nil {
			return err
		}
		for _, question := range []struct {
			name, sql, answer string
		}{
			{"pipeline", `
				SELECT dossier_id, coalesce(flow_name, '?'), coalesce(stage_name, '?'), days_in_stage_min, days_in_stage_max,
				       now() - deadline_earliest, now() - deadline_latest, overdue
				FROM pipeline ORDER BY dossier_id`, `
				elsewhere|?|?|-|-|-|-|f
				exact|Sales|Offer|8.00|8.00|3 days|3 days|t
				last|Sales|Deal|0.25|0.25|-|-|f
				nobody|Hiring|Intake|-|-|-|-|-
				sure|Sales|Lead|3.00|4.00|2 days|1 day|t
				vague|Sales|Lead|1.00|9.00|7 days|-1 days|-`},
			{"stage_visits", `
				SELECT dossier_id, visit, stage_id, is_current, is_exact, days_min, days_max
				FROM stage_visits ORDER BY dossier_id, visit`, `
				exact|1|lead|f|t|12.00|12.00
				exact|2|offer|t|t|8.00|8.00
				last|1|deal|t|t|0.25|0.25
				lost|1|offer|f|t|2.00|2.00
				lost|2|lead|t|f|-|-
				sure|1|lead|t|f|3.00|4.00
				vague|1|lead|t|f|1.00|9.00
				won|1|lead|f|f|10.00|12.00
				won|2|deal|t|f|-|-`},
			{"stage_conversion", `
				SELECT stage_id, entered, waiting, advanced, returned, won, lost, archived, elsewhere, conversion,
				       timed, timed_exactly, median_days_min, median_days_max
				FROM stage_conversion ORDER BY flow_name, position`, `
				intake|0|0|0|0|0|0|0|0|-|0|0|-|-
				lead|5|2|2|0|0|1|0|0|0.6667|2|1|11|12
				offer|2|1|0|1|0|0|0|0|0.0000|1|1|2|2
				deal|2|1|0|0|1|0|0|0|1.0000|0|0|-|-`},
			{"forecast", `
				SELECT deal_currency, dossiers, total, trim_scale(weighted), without_size, without_probability, total_without_probability
				FROM forecast ORDER BY 1`, `
				EUR|2|1200.10|520.05|0|0|-
				USD|2|9|-|1|1|9
				-|1|-|-|1|0|-`},
			{"contact_dossiers", `SELECT contact_id, dossier_id, stage_name, role_on_dossier, is_primary FROM contact_dossiers ORDER BY 1`, `
				busy|exact|Offer|champion|t
				idle|-|-|-|-
				noted|lost|Lead|other|f
				old|-|-|-|-`},
			{"people_past_retention", `SELECT contact_id, open_dossiers, now() - last_activity, pool_expired, inactive FROM people_past_retention ORDER BY 1`, `
				idle|0|800 days|f|t
				old|0|3 days|t|f`},
		} {
			if got, want := answer(t, tx, question.sql), unindent(question.answer); got != want {
				t.Errorf("%s answers\n%s\nwant\n%s", question.name, got, want)
			}
		}
		if _, err := tx.Exec(t.Context(), `UPDATE retention_rule SET expired_pool = false, inactive_after = '4 days'`); err != nil {
			return err
		}
		if got := answer(t, tx, `SELECT contact_id FROM people_past_retention ORDER BY 1`); got != "idle\nnoted" {
			t.Errorf("under another rule past retention are\n%s\nwant idle and noted", got)
		}
		// A stage that is gone from LeadGrid weighs nothing.
		if _, err := tx.Exec(t.Context(), `UPDATE stages SET _deleted_at = now() WHERE id = 'offer'`); err != nil {
			return err
		}
		for sql, want := range map[string]string{
			`SELECT stage_id, stage_name, win_probability, weighted_size FROM pipeline WHERE dossier_id = 'exact'`:                  "offer|-|-|-",
			`SELECT trim_scale(weighted), without_probability, total_without_probability FROM forecast WHERE deal_currency = 'EUR'`: "20|1|1000.10",
			`SELECT stage_name FROM contact_dossiers WHERE contact_id = 'busy'`:                                                     "-",
		} {
			if got := answer(t, tx, sql); got != want {
				t.Errorf("once its stage is gone, %s answers %s, want %s", sql, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// answer writes a query's rows as lines, as psql -At would, with - for null.
func answer(t *testing.T, tx pgx.Tx, sql string) string {
	t.Helper()
	rows, err := tx.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var fields []string
		for _, raw := range rows.RawValues() {
			if raw == nil {
				raw = []byte("-")
			}
			fields = append(fields, string(raw))
		}
		lines = append(lines, strings.Join(fields, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(lines, "\n")
}

func unindent(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// TestViewsOverSeededData holds the views against sums made in Go over what the stand-in LeadGrid holds.
func TestViewsOverSeededData(t *testing.T) {
	server := leadgridtest.New(leadgridtest.Options{})
	defer server.Close()
	server.Seed(leadgridtest.Size{Dossiers: 400, Contacts: 300, Links: 500, Notes: 100, Odd: 0.05})
	truth := server.Snapshot()
	pool := pgtest.New(t)
	for table, rows := range truth {
		if err := fill(t.Context(), pool, table, rows); err != nil {
			t.Fatalf("fill %s: %v", table, err)
		}
	}

	open := map[string]bool{}
	weighted := map[string]*big.Rat{}
	for id, d := range truth["dossiers"] {
		if d["status"] == "won" || d["status"] == "lost" || d["status"] == "archived" {
			continue
		}
		open[id] = true
		size, sized := d["deal_size"].(json.Number)
		stage := truth["stages"][fmt.Sprint(d["current_stage_id"])]
		win, likely := stage["win_probability"].(json.Number)
		if !sized || !likely {
			continue
		}
		currency := fmt.Sprint(d["deal_currency"])
		if weighted[currency] == nil {
			weighted[currency] = new(big.Rat)
		}
		product := new(big.Rat).Mul(rat(t, size), rat(t, win))
		weighted[currency].Add(weighted[currency], product.Quo(product, big.NewRat(100, 1)))
	}
	if len(open) < 50 || len(weighted) == 0 {
		t.Fatalf("the seed made %d open dossiers and %d currencies: too few to show anything", len(open), len(weighted))
	}

	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		inPipeline := answer(t, tx, `SELECT dossier_id FROM pipeline`)
		ids := strings.Split(inPipeline, "\n")
		for _, id := range ids {
			if !open[id] {
				t.Errorf("pipeline shows %s, which is not under way", id)
			}
		}
		if len(ids) != len(open) {
			t.Errorf("pipeline shows %d dossiers, %d are under way", len(ids), len(open))
		}
		for currency, want := range weighted {
			got := answer(t, tx, `SELECT weighted FROM forecast WHERE deal_currency = '`+currency+`'`)
			if rat(t, json.Number(got)).Cmp(want) != 0 {
				t.Errorf("forecast in %s is %s, want %s", currency, got, want.FloatString(4))
			}
		}
		linked := map[string]bool{}
		for _, link := range truth["dossier_contacts"] {
			linked[fmt.Sprint(link["contact_id"])] = true
		}
		rows := len(truth["dossier_contacts"]) + len(truth["contacts"]) - len(linked)
		if got := answer(t, tx, `SELECT count(*) FROM contact_dossiers`); got != fmt.Sprint(rows) {
			t.Errorf("contact_dossiers has %s rows, want %d", got, rows)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func rat(t *testing.T, n json.Number) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		t.Fatalf("%q is no number", n)
	}
	return r
}

// fill writes rows straight into a table, through Postgres's own reading of JSON.
func fill(ctx context.Context, db interface {
	Begin(context.Context) (pgx.Tx, error)
}, table string, rows map[string]map[string]any) error {
	var objects []map[string]any
	for _, row := range rows {
		object := map[string]any{}
		for field, value := range row {
			switch value := value.(type) {
			case time.Time:
				object[field] = value.Format(time.RFC3339Nano)
			case string:
				object[field] = strings.ReplaceAll(value, "\x00", "\uFFFD")
			case []any, map[string]any: // a flow's stages have a table of their own
			default:
				object[field] = value
			}
		}
		objects = append(objects, object)
	}
	text, err := json.Marshal(objects)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO `+table+` SELECT * FROM jsonb_populate_recordset(NULL::`+table+`, $1)`, text)
		return err
	})
}
