package leadgridtest_test

import (
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestIDs(t *testing.T) {
	for habit, shape := range map[string]string{"": "-4", "short": "dos_", "awkward": "dos/"} {
		l := start(t, habits(leadgridtest.Habits{IDs: habit}))
		if id := l.create(object{"type": "candidate", "name": "A"}); !strings.Contains(id, shape) {
			t.Errorf("%s: id %q has no %q", habit, id, shape)
		}
	}
}

func TestHideArchived(t *testing.T) {
	l := start(t, habits(leadgridtest.Habits{HideArchived: true}))
	a, b := l.create(object{"type": "candidate", "name": "A"}), l.create(object{"type": "candidate", "name": "B"})
	l.want(200, "DELETE", at("dossiers", a), nil)
	for query, want := range map[string][]string{"": {b}, "?type=candidate": {b}, "?status=archived": {a}} {
		if rows := l.want(200, "GET", "/dossiers"+query, nil).rows("id"); !slices.Equal(rows, want) {
			t.Errorf("%s: %v, want %v", query, rows, want)
		}
	}
	l.want(200, "GET", at("dossiers", a), nil)
}

func TestOrder(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	var made []string
	for i := range 6 {
		made = append(made, l.create(object{"type": "candidate", "name": strconv.Itoa(i)}))
	}
	l.want(200, "PATCH", at("dossiers", made[2]), object{"city": "Gent"})
	list := func(order string) []string {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.Order = order })
		return l.want(200, "GET", "/dossiers", nil).rows("id")
	}
	reversed := slices.Clone(made)
	slices.Reverse(reversed)
	for order, want := range map[string][]string{
		"": made, "newest": reversed,
		"updated":        {made[2], made[5], made[4], made[3], made[1], made[0]},
		"updated-oldest": {made[0], made[1], made[3], made[4], made[5], made[2]},
	} {
		if got := list(order); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", order, got, want)
		}
	}
	if a, b := list("random"), list("random"); !slices.Equal(a, b) || slices.Equal(a, made) {
		t.Errorf("random: %v then %v", a, b)
	}
	seen := map[string]bool{}
	for range 10 {
		seen[fmt.Sprint(list("unstable"))] = true
	}
	if len(seen) < 2 {
		t.Error("unstable: ten times the same order")
	}
	sort.Strings(made)
	unstable := list("unstable")
	sort.Strings(unstable)
	if !slices.Equal(made, unstable) {
		t.Error("unstable: not the same rows")
	}
}

func TestPageSizes(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	l.Seed(leadgridtest.Size{Dossiers: 130})
	for _, row := range []struct {
		habits leadgridtest.Habits
		query  string
		status int
		rows   int
		size   string
	}{
		{leadgridtest.Habits{}, "", 200, 25, "25"},
		{leadgridtest.Habits{}, "?per_page=100&page=2", 200, 30, "100"},
		{leadgridtest.Habits{}, "?per_page=500", 200, 100, "100"},
		{leadgridtest.Habits{PerPage: "fixed"}, "?per_page=100", 200, 25, "25"},
		{leadgridtest.Habits{PerPage: "refused"}, "?per_page=100", 200, 100, "100"},
		{leadgridtest.Habits{PerPage: "refused"}, "?per_page=101", 400, 0, ""},
		{leadgridtest.Habits{MaxPerPage: 10}, "?per_page=100", 200, 10, "10"},
		{leadgridtest.Habits{}, "?page=7", 200, 0, "25"},
		{leadgridtest.Habits{PastEnd: "not-found"}, "?page=7", 404, 0, ""},
		{leadgridtest.Habits{PastEnd: "repeat"}, "?page=7", 200, 5, "25"},
		{leadgridtest.Habits{PastEnd: "not-found"}, "?page=1&status=won&type=sales&stage_id=x", 200, 0, "25"},
	} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits = row.habits })
		g := l.want(row.status, "GET", "/dossiers"+row.query, nil)
		if len(g.rows("id")) != row.rows || g.meta("per_page") != row.size {
			t.Errorf("%+v %s: %d rows, per_page %s", row.habits, row.query, len(g.rows("id")), g.meta("per_page"))
		}
	}
}

func TestSubLists(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	id := l.create(object{"type": "candidate", "name": "A"})
	for i := range 5 {
		l.want(201, "POST", at("dossiers", id, "notes"), object{"content": strconv.Itoa(i)})
		contact := l.want(201, "POST", "/contacts", object{"full_name": strconv.Itoa(i)}).data()["id"]
		l.want(201, "POST", at("dossiers", id, "contacts"), object{"contact_id": contact, "role_on_dossier": "other"})
	}
	for habit, want := range map[string][3]string{
		"":         {"012", "34", ""},
		"whole":    {"01234", "", ""},
		"repeated": {"01234", "01234", "01234"},
		"stuck":    {"012", "012", "012"},
	} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.SubLists = habit })
		for page := range 3 {
			query := "?per_page=3&page=" + strconv.Itoa(page+1)
			notes := strings.Join(l.want(200, "GET", at("dossiers", id, "notes")+query, nil).rows("content"), "")
			links := strings.Join(l.want(200, "GET", at("dossiers", id, "contacts")+query, nil).rows("full_name"), "")
			if notes != want[page] || links != want[page] {
				t.Errorf("%s page %d: notes %q, links %q, want %q", habit, page+1, notes, links, want[page])
			}
		}
	}
}

func TestMetaTotal(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	l.Seed(leadgridtest.Size{Dossiers: 50})
	drifted := map[string]bool{}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.MetaTotal = "drifting" })
	for range 20 {
		drifted[l.want(200, "GET", "/dossiers", nil).meta("total")] = true
	}
	if len(drifted) < 3 {
		t.Errorf("drifting: only %v", drifted)
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.MetaTotal = "missing" })
	if g := l.want(200, "GET", "/dossiers", nil); g.meta("total") != "" || g.meta("page") != "1" {
		t.Errorf("missing: %v", g.body["meta"])
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.MetaTotal = "none" })
	if g := l.want(200, "GET", "/dossiers", nil); g.body["meta"] != nil {
		t.Errorf("none: %v", g.body["meta"])
	}
}

func TestOmits(t *testing.T) {
	l := start(t, habits(leadgridtest.Habits{
		Omits: []string{"dossiers.updated_at", "stages.color"}, ListOmits: leadgridtest.ThinRows, WriteOmits: []string{"dossiers.phone"},
	}))
	l.CreateFlow("R", "candidate", true, leadgridtest.Stage{Name: "A"})
	wrote := l.want(201, "POST", "/dossiers", object{"type": "candidate", "name": "A"}).data()
	read := l.want(200, "GET", at("dossiers", wrote["id"].(string)), nil).data()
	row := l.want(200, "GET", "/dossiers", nil).body["data"].([]any)[0].(object)
	stage := l.want(200, "GET", at("flows", l.FlowIDs()[0], "stages"), nil).body["data"].([]any)[0].(object)
	for key, want := range map[string][3]bool{ // in the answer to a write, in a GET, in a list
		"name": {true, true, true}, "updated_at": {}, "phone": {false, true, false}, "intake_notes": {true, true, false},
	} {
		for i, answer := range []object{wrote, read, row} {
			if _, has := answer[key]; has != want[i] {
				t.Errorf("%s in answer %d: %v", key, i, has)
			}
		}
	}
	if _, has := stage["color"]; has {
		t.Error("stages.color was not left out")
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits = leadgridtest.Habits{OmitNulls: true, UnknownFields: true} })
	d := l.want(200, "GET", at("dossiers", wrote["id"].(string)), nil).data()
	if _, has := d["email"]; has || d["x_score"] == nil {
		t.Errorf("null or unknown fields: %v", d)
	}
}

func TestPatchNull(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	id := l.create(object{"type": "candidate", "name": "A"})
	contact := l.want(201, "POST", "/contacts", object{"full_name": "C"}).data()["id"].(string)
	for habit, want := range map[string]any{"": nil, "ignored": "Gent", "refused": "Gent"} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.PatchNull = "" })
		for _, path := range []string{at("dossiers", id), at("contacts", contact)} {
			l.want(200, "PATCH", path, object{"city": "Gent"})
			l.Change(func(s *leadgridtest.Settings) { s.Habits.PatchNull = habit })
			status := 200
			if habit == "refused" {
				status = 400
			}
			l.want(status, "PATCH", path, object{"city": nil})
			if city := l.want(200, "GET", path, nil).data()["city"]; city != want {
				t.Errorf("%s %s: city %v, want %v", habit, path, city, want)
			}
		}
		l.want(200, "PATCH", at("dossiers", id), object{"assigned_to": nil}) // documented, so it always works
	}
}

func TestCreateMakesContact(t *testing.T) {
	l := start(t, habits(leadgridtest.Habits{CreateMakesContact: true}))
	first := l.create(object{"type": "sales", "name": "Deal", "contact_person": "Els", "email": "els@example.be"})
	second := l.create(object{"type": "candidate", "name": "Els M", "email": "ELS@example.be"})
	links := l.Snapshot()[leadgridtest.Links]
	contact := l.ContactIDs()
	if len(contact) != 1 || links[first+"|"+contact[0]]["full_name"] != "Els" || links[second+"|"+contact[0]]["is_primary"] != true {
		t.Errorf("contacts %v, links %v", contact, links)
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.CreateMakesContact = false })
	third := l.create(object{"type": "candidate", "name": "B", "contact_id": contact[0]})
	if l.Snapshot()[leadgridtest.Links][third+"|"+contact[0]] == nil {
		t.Error("contact_id made no link")
	}
}

func TestFailedCreateLeftBehind(t *testing.T) {
	l := start(t, habits(leadgridtest.Habits{LeavesFailedCreates: true}))
	l.Change(func(s *leadgridtest.Settings) { s.Faults.UploadFails = 1 })
	body, contentType := form(t, map[string]string{"type": "candidate", "name": "A"}, pdf)
	l.want(500, "POST", "/dossiers", body, "Content-Type", contentType)
	ids := l.DossierIDs()
	if len(ids) != 1 || len(l.Creates()) != 1 || !l.Ledger()[0].Acted {
		t.Fatalf("left behind: %v, ledger %v", ids, l.Ledger())
	}
	if l.want(200, "GET", at("dossiers", ids[0]), nil).data()["cv_url"] != nil {
		t.Error("it has a CV")
	}
}

func TestCVPathAndDeletes(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	id := l.create(object{"type": "candidate", "name": "A"})
	upload := func() any { return l.want(200, "POST", at("dossiers", id, "cv"), pdf).data()["cv_url"] }
	if a, b := upload(), upload(); a != b {
		t.Errorf("%v, then %v", a, b)
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits = leadgridtest.Habits{NewCVPath: true, EmptyDeletes: true} })
	if a, b := upload(), upload(); a == b {
		t.Errorf("the same path twice: %v", a)
	}
	if g := l.want(204, "DELETE", at("dossiers", id), nil); g.raw != "" {
		t.Errorf("204 with a body: %q", g.raw)
	}
}

func TestRedirect(t *testing.T) {
	l := start(t, habits(leadgridtest.Habits{Redirect: "302"}))
	location := l.want(302, "GET", "/dossiers?page=1", nil).header.Get("Location")
	if location != "/www/api/v1/dossiers?page=1" {
		t.Fatalf("Location %q", location)
	}
	// Go's own client, left alone, turns the POST into a GET: nothing is created and the caller sees a 200.
	request, _ := http.NewRequestWithContext(t.Context(), "POST", l.URL()+"/dossiers", strings.NewReader(`{"type":"candidate","name":"A"}`))
	request.Header.Set("Authorization", "Bearer "+l.Key())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 || len(l.Creates()) != 0 {
		t.Errorf("status %d, %d creates", response.StatusCode, len(l.Creates()))
	}
}

func TestTimestamps(t *testing.T) {
	now := time.Date(2026, 4, 15, 10, 30, 0, 120_456_789, time.UTC)
	l := start(t, leadgridtest.Options{Now: func() time.Time { return now }})
	for habit, want := range map[string]string{
		"": "2026-04-15T10:30:00.120Z", "seconds": "2026-04-15T10:30:00Z", "micros": "2026-04-15T10:30:00.120456Z",
		"nanos": "2026-04-15T10:30:00.120456000Z", "offset": "2026-04-15T12:30:00.120+02:00", "postgres": "2026-04-15T10:30:00.120456+00:00",
	} {
		l.Change(func(s *leadgridtest.Settings) { s.Habits.Timestamps = habit })
		if at := l.want(201, "POST", "/dossiers", object{"type": "candidate", "name": "A"}).data()["created_at"]; at != want {
			t.Errorf("%s: %v, want %s", habit, at, want)
		}
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.Timestamps = "mixed" })
	id := l.create(object{"type": "candidate", "name": "A"})
	written := map[string]bool{}
	for range 30 {
		text := l.want(200, "GET", at("dossiers", id), nil).data()["created_at"].(string)
		if !must(time.Parse(time.RFC3339Nano, text)).Equal(now.Truncate(time.Millisecond)) {
			t.Errorf("mixed: %s is another instant", text)
		}
		written[text] = true
	}
	if len(written) < 4 {
		t.Errorf("mixed: only %v", written)
	}
}
