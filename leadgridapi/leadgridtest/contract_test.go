package leadgridtest_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestDossierLifecycle(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	flow, stages := l.CreateFlow("Sales", "sales", true, leadgridtest.Stage{Name: "Lead"}, leadgridtest.Stage{Name: "Won"})
	_, elsewhere := l.CreateFlow("Other", "sales", false, leadgridtest.Stage{Name: "X"})

	id := l.create(object{"type": "sales", "name": "Deal", "deal_size": json.Number("12345678901234567890.10"), "assigned_to": "user-1"})
	d := l.want(200, "GET", at("dossiers", id), nil).data()
	for key, want := range map[string]any{
		"organization_id": l.ID(), "type": "sales", "name": "Deal", "status": "active", "flow_id": flow,
		"current_stage_id": stages[0], "deal_size": json.Number("12345678901234567890.10"), "deal_currency": "EUR",
		"assigned_to": "user-1", "email": nil, "cv_url": nil, "contact_id": nil,
	} {
		if d[key] != want {
			t.Errorf("%s is %v, want %v", key, d[key], want)
		}
	}
	if len(d) != 21 {
		t.Errorf("a dossier has %d fields, want the 21 documented ones: %v", len(d), d)
	}

	l.want(400, "PATCH", at("dossiers", id), object{"current_stage_id": elsewhere[0]})
	moved := l.want(200, "PATCH", at("dossiers", id), object{"current_stage_id": stages[1], "assigned_to": nil, "city": "Gent"}).data()
	if moved["current_stage_id"] != stages[1] || moved["assigned_to"] != nil || moved["city"] != "Gent" {
		t.Errorf("after the PATCH: %v", moved)
	}
	if l.want(200, "DELETE", at("dossiers", id), nil).data()["status"] != "archived" {
		t.Error("DELETE did not archive")
	}
	if l.want(200, "PATCH", at("dossiers", id), object{"status": "won"}).data()["status"] != "won" {
		t.Error("PATCH did not restore")
	}

	types := []string{}
	for _, e := range l.Events() {
		types = append(types, e.Type)
	}
	want := []string{"dossier.created", "dossier.updated", "dossier.stage_changed", "dossier.deleted", "dossier.updated"}
	if !slices.Equal(types, want) {
		t.Errorf("events %v, want %v", types, want)
	}
}

func TestInvalidBodies(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	l.CreateFlow("R", "candidate", true, leadgridtest.Stage{Name: "A"})
	sales, _ := l.CreateFlow("S", "sales", true)
	id := l.create(object{"type": "candidate", "name": "A"})
	contact := l.want(201, "POST", "/contacts", object{"full_name": "C"}).data()["id"]
	before := len(l.Creates())
	for _, row := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/dossiers", nil},
		{"POST", "/dossiers", `{"type":"candidate","name":"A"} x`},
		{"POST", "/dossiers", `["candidate"]`},
		{"POST", "/dossiers", "{\"type\":\"candidate\",\"name\":\"\xff\"}"},
		{"POST", "/dossiers", object{"name": "A"}},
		{"POST", "/dossiers", object{"type": "partner", "name": "A"}},
		{"POST", "/dossiers", object{"type": "candidate", "name": " "}},
		{"POST", "/dossiers", object{"type": "candidate", "name": 7}},
		{"POST", "/dossiers", object{"type": "candidate", "name": "A", "email": "nobody"}},
		{"POST", "/dossiers", object{"type": "candidate", "name": "A", "deal_size": 7}},
		{"POST", "/dossiers", object{"type": "sales", "name": "A", "deal_size": "7"}},
		{"POST", "/dossiers", object{"type": "sales", "name": "A", "deal_currency": "euro"}},
		{"POST", "/dossiers", object{"type": "candidate", "name": "A", "flow_id": sales}},
		{"POST", "/dossiers", object{"type": "candidate", "name": "A", "contact_id": "nobody"}},
		{"PATCH", at("dossiers", id), object{"type": "sales"}},
		{"PATCH", at("dossiers", id), object{"flow_id": sales}},
		{"PATCH", at("dossiers", id), object{"status": "gone"}},
		{"PATCH", at("dossiers", id), object{"name": nil}},
		{"PATCH", at("dossiers", id), object{"contact_person": "B"}},
		{"POST", "/contacts", object{"email": "a@example.nl"}},
		{"POST", "/contacts", object{"full_name": "A", "kind": []string{"friend"}}},
		{"POST", "/contacts", object{"full_name": "A", "kind": "client"}},
		{"POST", at("dossiers", id, "contacts"), object{"contact_id": contact}},
		{"POST", at("dossiers", id, "contacts"), object{"contact_id": contact, "role_on_dossier": "boss"}},
		{"POST", at("dossiers", id, "contacts"), object{"contact_id": contact, "role_on_dossier": "other", "is_primary": "yes"}},
		{"POST", at("dossiers", id, "notes"), object{"content": ""}},
		{"POST", at("dossiers", id, "notes"), object{"content": "A", "is_internal": nil}},
		{"GET", "/dossiers?status=gone", nil},
		{"GET", "/dossiers?type=partner", nil},
		{"GET", "/dossiers?page=0", nil},
		{"GET", "/contacts?kind=client&kind=friend", nil},
		{"GET", "/contacts?pool=deep", nil},
		{"GET", "/flows?type=partner", nil},
	} {
		if g := l.want(400, row.method, row.path, row.body); g.code() != "invalid_body" {
			t.Errorf("%s %s %v: code %q", row.method, row.path, row.body, g.code())
		}
	}
	if made := len(l.Creates()) - before; made != 0 {
		t.Errorf("%d invalid creates were executed", made)
	}
}

func TestNotFound(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	other := must(l.NewOrganization().CreateDossier(leadgridtest.Fields{"name": "theirs"}))
	mine := l.create(object{"type": "candidate", "name": "A"})
	for _, row := range [][2]string{
		{"GET", at("dossiers", other)}, {"PATCH", at("dossiers", other)}, {"DELETE", at("dossiers", other)},
		{"GET", "/dossiers/x/contacts"}, {"GET", "/dossiers/x/notes"}, {"GET", "/contacts/x"}, {"DELETE", "/contacts/x"},
		{"PATCH", "/contacts/x"}, {"GET", "/flows/x/stages"}, {"DELETE", at("dossiers", mine, "contacts", "x")}, {"GET", "/persons"},
	} {
		var body any
		if row[0] == "PATCH" {
			body = object{}
		}
		if g := l.want(404, row[0], row[1], body); g.code() != "not_found" {
			t.Errorf("%v: code %q", row, g.code())
		}
	}
	l.want(404, "POST", "/dossiers/x/cv", pdf)
	l.want(404, "POST", at("dossiers", mine, "contacts"), object{"contact_id": "x", "role_on_dossier": "other"})
	if allow := l.want(405, "PUT", at("dossiers", mine), nil).header.Get("Allow"); allow != "GET, PATCH, DELETE" {
		t.Errorf("Allow: %q", allow)
	}
}

func TestContacts(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	id := l.want(201, "POST", "/contacts", object{"full_name": "Noor Maes", "email": "Noor@example.be", "kind": []string{"client", "client", "partner"}}).data()["id"].(string)
	if code := l.want(409, "POST", "/contacts", object{"full_name": "N", "email": "nOOR@EXAMPLE.be"}).code(); code != "duplicate_contact" {
		t.Errorf("code %q", code)
	}
	second := l.want(201, "POST", "/contacts", object{"full_name": "Piet", "email": "piet@example.nl", "company": "Noordzee"}).data()["id"].(string)
	l.want(409, "PATCH", at("contacts", second), object{"email": "noor@example.be"})
	l.want(200, "PATCH", at("contacts", id), object{"email": "noor@EXAMPLE.be"}) // its own

	dossier := l.create(object{"type": "candidate", "name": "A"})
	l.want(201, "POST", at("dossiers", dossier, "contacts"), object{"contact_id": id, "role_on_dossier": "champion", "is_primary": true})
	link := l.want(201, "POST", at("dossiers", dossier, "contacts"), object{"contact_id": second, "role_on_dossier": "primary", "is_primary": true}).data()
	if link["full_name"] != "Piet" || link["company"] != "Noordzee" || link["is_primary"] != true || len(link) != 7 {
		t.Errorf("link %v", link)
	}
	snapshot := l.Snapshot()[leadgridtest.Links]
	if snapshot[dossier+"|"+id]["is_primary"] != false || snapshot[dossier+"|"+second]["is_primary"] != true {
		t.Errorf("the old primary was not demoted: %v", snapshot)
	}
	if count := l.want(200, "GET", at("contacts", id), nil).data()["dossier_count"]; count != json.Number("1") {
		t.Errorf("dossier_count %v", count)
	}

	changed := l.want(200, "PATCH", at("contacts", id), object{"kind": []string{"supplier"}, "city": "Gent"}).data()
	if kinds := changed["kind"].([]any); len(kinds) != 1 || kinds[0] != "supplier" || changed["full_name"] != "Noor Maes" {
		t.Errorf("after the PATCH: %v", changed)
	}
	must(0, l.UpdateContact(second, leadgridtest.Fields{"pool": "expired"}))
	for query, want := range map[string][]string{
		"":                            {id, second},
		"?search=noor":                {id, second},
		"?search=NOORD":               {second},
		"?kind=supplier&kind=partner": {id},
		"?kind=client":                {},
		"?pool=expired":               {second},
		"?pool=in_pool":               {},
	} {
		if rows := l.want(200, "GET", "/contacts"+query, nil).rows("id"); !slices.Equal(rows, want) {
			t.Errorf("%s: %v, want %v", query, rows, want)
		}
	}

	l.want(200, "DELETE", at("contacts", id), nil)
	if rows := l.want(200, "GET", at("dossiers", dossier, "contacts"), nil).rows("contact_id"); !slices.Equal(rows, []string{second}) {
		t.Errorf("links after the contact has gone: %v", rows)
	}
	l.want(200, "DELETE", at("dossiers", dossier, "contacts", second), nil)
	l.want(404, "DELETE", at("dossiers", dossier, "contacts", second), nil)
	l.want(201, "POST", "/contacts", object{"full_name": "N", "email": "noor@example.be"}) // free again
}

func TestFlowsStagesNotes(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	days, win := 3, 20
	id, stages := l.CreateFlow("S", "sales", true,
		leadgridtest.Stage{Name: "second", Position: 2}, leadgridtest.Stage{Name: "first", Position: 1, Deadline: &days, Win: &win, Color: "#fff"})
	l.CreateFlow("R", "candidate", true)
	g := l.want(200, "GET", "/flows?type=sales", nil)
	if g.meta("total") != "1" {
		t.Errorf("total %s", g.meta("total"))
	}
	nested := g.body["data"].([]any)[0].(object)["stages"].([]any)
	first := nested[0].(object)
	if first["id"] != stages[1] || first["flow_id"] != id || first["deadline_days"] != json.Number("3") || first["win_probability"] != json.Number("20") || len(first) != 7 {
		t.Errorf("first stage %v", first)
	}
	if rows := l.want(200, "GET", at("flows", id, "stages"), nil).rows("id"); !slices.Equal(rows, []string{stages[1], stages[0]}) {
		t.Errorf("stages %v, want them by position", rows)
	}

	dossier := l.create(object{"type": "candidate", "name": "A"})
	one := l.want(201, "POST", at("dossiers", dossier, "notes"), object{"content": "één"}).data()
	l.want(201, "POST", at("dossiers", dossier, "notes"), object{"content": "two", "is_internal": false})
	if one["is_internal"] != true || one["dossier_id"] != dossier || len(one) != 5 {
		t.Errorf("note %v", one)
	}
	if rows := l.want(200, "GET", at("dossiers", dossier, "notes"), nil).rows("content"); !slices.Equal(rows, []string{"één", "two"}) {
		t.Errorf("notes %v", rows)
	}
}

func TestCVs(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	l.CreateFlow("R", "candidate", true, leadgridtest.Stage{Name: "A"})
	body, contentType := form(t, map[string]string{"type": "sales", "name": "B", "deal_size": "12.50"}, pdf)
	made := l.want(201, "POST", "/dossiers", body, "Content-Type", contentType).data()
	id := made["id"].(string)
	if made["cv_url"] == nil || made["deal_size"] != json.Number("12.50") {
		t.Errorf("made %v", made)
	}
	if cv, ok := l.CV(id); !ok || cv.Size != len(pdf) {
		t.Errorf("CV %v %v", cv, ok)
	}

	big := append(slices.Clone(pdf), bytes.Repeat([]byte("x"), 10<<20)...)
	for name, cv := range map[string][]byte{"no PDF": []byte("hello"), "empty": {}, "too big": big} {
		l.want(400, "POST", at("dossiers", id, "cv"), cv)
		body, contentType := form(t, map[string]string{"type": "candidate", "name": name}, cv)
		l.want(400, "POST", "/dossiers", body, "Content-Type", contentType)
	}
	l.want(400, "POST", at("dossiers", id, "cv"), pdf, "Content-Type", "text/plain")
	other := append(slices.Clone(pdf), big[len(pdf):9<<20]...)
	l.want(200, "POST", at("dossiers", id, "cv"), other)
	if cv, _ := l.CV(id); cv.Size != len(other) {
		t.Errorf("the CV was not replaced: %v", cv)
	}
	body, contentType = form(t, nil, pdf)
	l.want(200, "POST", at("dossiers", id, "cv"), body, "Content-Type", contentType)
	if made := l.Creates(); len(made) != 1 {
		t.Errorf("%d dossiers were made, want 1", len(made))
	}

	// A failed upload takes the whole create back.
	l.Change(func(s *leadgridtest.Settings) { s.Faults.UploadFails = 1 })
	body, contentType = form(t, map[string]string{"type": "candidate", "name": "C"}, pdf)
	l.want(500, "POST", "/dossiers", body, "Content-Type", contentType)
	if total := l.want(200, "GET", "/dossiers", nil).meta("total"); total != "1" {
		t.Errorf("%s dossiers after the rollback, want 1", total)
	}
}

func TestFiltersAndPages(t *testing.T) {
	l := start(t, leadgridtest.Options{Seed: 3})
	l.Seed(leadgridtest.Size{Dossiers: 1300, Contacts: 300, Links: 900, Notes: 600})
	truth := l.Snapshot()
	stage := l.StageIDs(l.FlowIDs()[0])[1]
	for query, match := range map[string]func(d map[string]any) bool{
		"":                                  func(d map[string]any) bool { return true },
		"status=archived":                   func(d map[string]any) bool { return d["status"] == "archived" },
		"type=sales":                        func(d map[string]any) bool { return d["type"] == "sales" },
		"type=candidate&status=won":         func(d map[string]any) bool { return d["type"] == "candidate" && d["status"] == "won" },
		"stage_id=" + stage:                 func(d map[string]any) bool { return d["current_stage_id"] == stage },
		"stage_id=" + stage + "&type=sales": func(d map[string]any) bool { return false },
	} {
		want := 0
		for _, d := range truth[leadgridtest.Dossiers] {
			if match(d) {
				want++
			}
		}
		seen := map[string]bool{}
		for page := 1; ; page++ {
			g := l.want(200, "GET", "/dossiers?"+query+"&per_page=100&page="+strconv.Itoa(page), nil)
			for _, id := range g.rows("id") {
				if seen[id] || !match(truth[leadgridtest.Dossiers][id]) {
					t.Fatalf("%s: row %s twice or not wanted", query, id)
				}
				seen[id] = true
			}
			if len(g.rows("id")) < 100 {
				if g.meta("total") != strconv.Itoa(want) || len(seen) != want {
					t.Errorf("%s: total %s, %d rows, want %d", query, g.meta("total"), len(seen), want)
				}
				break
			}
		}
	}
}

func TestScopesAndKeys(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	second := l.NewOrganization()
	theirs := must(second.CreateDossier(leadgridtest.Fields{"name": "theirs"}))
	mine := l.create(object{"type": "candidate", "name": "mine"})

	l.SetKey(l.key, l.Organization, "dossiers:read", "contacts:write")
	for _, row := range [][2]string{
		{"POST", "/dossiers"}, {"PATCH", at("dossiers", mine)}, {"DELETE", at("dossiers", mine)}, {"POST", at("dossiers", mine, "cv")},
		{"GET", "/contacts"}, {"GET", at("dossiers", mine, "contacts")}, {"POST", at("dossiers", mine, "contacts")},
		{"DELETE", at("dossiers", mine, "contacts", "x")}, {"GET", "/flows"}, {"GET", "/flows/x/stages"},
		{"GET", at("dossiers", mine, "notes")}, {"POST", at("dossiers", mine, "notes")},
	} {
		if code := l.want(403, row[0], row[1], object{}).code(); code != "forbidden" {
			t.Errorf("%v: code %q", row, code)
		}
	}
	l.want(200, "GET", at("dossiers", mine), nil)

	l.SetKey(l.key, second)
	if rows := l.want(200, "GET", "/dossiers", nil).rows("id"); !slices.Equal(rows, []string{theirs}) {
		t.Errorf("after the swap: %v", rows)
	}
	l.want(404, "GET", at("dossiers", mine), nil)
	second.SetPlan(false)
	if code := l.want(402, "GET", "/dossiers", nil).code(); code != "plan_required" {
		t.Errorf("code %q", code)
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.PlanForbidden = true })
	l.want(403, "GET", "/dossiers", nil)
	l.RevokeKey(l.key)
	g := l.want(401, "GET", "/dossiers", nil)
	if g.code() != "unauthorized" || g.header.Get("X-RateLimit-Limit") == "" {
		t.Errorf("401: %v %v", g.code(), g.header)
	}
	l.want(401, "GET", "/dossiers", nil, "Authorization", strings.Repeat("x", 10))
}

func TestRateLimit(t *testing.T) {
	now := time.Date(2026, 4, 15, 10, 30, 0, 500_000_000, time.UTC)
	l := start(t, leadgridtest.Options{
		Now:      func() time.Time { return now },
		Settings: leadgridtest.Settings{Limits: leadgridtest.Limits{Requests: 2, Window: 10 * time.Second}},
	})
	for _, left := range []string{"1", "0"} {
		g := l.want(200, "GET", "/dossiers", nil)
		if g.header.Get("X-RateLimit-Limit") != "2" || g.header.Get("X-RateLimit-Remaining") != left {
			t.Errorf("headers %v, want %s left of 2", g.header, left)
		}
	}
	now = now.Add(2 * time.Second)
	g := l.want(429, "GET", "/dossiers", nil)
	if g.code() != "rate_limited" || g.header.Get("Retry-After") != "8" || g.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("429: %v %v", g.code(), g.header)
	}
	for habit, want := range map[string]string{
		"date": "Wed, 15 Apr 2026 10:30:11 GMT", "none": "", "rubbish": "soon", "huge": "7208",
	} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.RetryAfter = habit })
		if after := l.want(429, "GET", "/dossiers", nil).header.Get("Retry-After"); after != want {
			t.Errorf("%s: Retry-After %q, want %q", habit, after, want)
		}
	}
	for habit, want := range map[string]string{"absent": "", "wrong": "20", "rubbish": "plenty"} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.RateHeaders = habit })
		if limit := l.want(429, "GET", "/dossiers", nil).header.Get("X-RateLimit-Limit"); limit != want {
			t.Errorf("%s: X-RateLimit-Limit %q, want %q", habit, limit, want)
		}
	}
	now = now.Add(8 * time.Second)
	l.want(200, "GET", "/dossiers", nil)
}
