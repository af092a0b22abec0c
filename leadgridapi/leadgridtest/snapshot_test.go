package leadgridtest_test

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// everything reads the whole organization over HTTP, in the form of a Snapshot. An absent documented key
// counts as null, and an undocumented one does not count.
func (l *leadgrid) everything() leadgridtest.Snapshot {
	l.t.Helper()
	all := leadgridtest.Snapshot{}
	for table := range documented {
		all[table] = map[string]map[string]any{}
	}
	add := func(table, id string, row object) {
		fields := map[string]any{}
		for _, key := range documented[table] {
			fields[key] = plain(key, row[key])
		}
		if all[table][id] != nil {
			l.t.Errorf("%s %s twice", table, id)
		}
		all[table][id] = fields
	}
	l.each("/flows", func(f object) {
		add(leadgridtest.Flows, f["id"].(string), f)
		for _, s := range f["stages"].([]any) {
			add(leadgridtest.Stages, s.(object)["id"].(string), s.(object))
		}
	})
	l.each("/contacts", func(c object) { add(leadgridtest.Contacts, c["id"].(string), c) })
	for _, pool := range []string{"in_pool", "expired"} {
		l.each("/contacts?pool="+pool, func(c object) { all[leadgridtest.Contacts][c["id"].(string)]["pool"] = pool })
	}
	dossier := func(d object) {
		id := d["id"].(string)
		if all[leadgridtest.Dossiers][id] != nil {
			return
		}
		add(leadgridtest.Dossiers, id, d)
		l.each(at("dossiers", id, "contacts"), func(k object) {
			add(leadgridtest.Links, k["dossier_id"].(string)+"|"+k["contact_id"].(string), k)
		})
		l.each(at("dossiers", id, "notes"), func(n object) { add(leadgridtest.Notes, n["id"].(string), n) })
	}
	l.each("/dossiers", dossier)
	l.each("/dossiers?status=archived", dossier)
	return all
}

// each visits a list's rows, page by page.
func (l *leadgrid) each(path string, visit func(object)) {
	l.t.Helper()
	join := "?"
	if strings.Contains(path, "?") {
		join = "&"
	}
	var before []any
	for page := 1; ; page++ {
		g := l.want(200, "GET", path+join+"page="+strconv.Itoa(page), nil)
		rows := g.body["data"].([]any)
		if reflect.DeepEqual(rows, before) {
			return // the last page again
		}
		before = rows
		for _, row := range rows {
			visit(row.(object))
		}
		if size, _ := strconv.Atoi(g.meta("per_page")); len(rows) < size {
			return
		}
	}
}

var documented = map[string][]string{
	leadgridtest.Dossiers: strings.Fields(`id organization_id type name email phone city company role contact_person deal_size deal_currency
		status flow_id current_stage_id assigned_to intake_notes cv_url contact_id created_at updated_at`),
	leadgridtest.Contacts: strings.Fields("id full_name email phone linkedin_url company role city kind notes dossier_count created_at pool"),
	leadgridtest.Links:    strings.Fields("dossier_id contact_id full_name email company role_on_dossier is_primary"),
	leadgridtest.Flows:    strings.Fields("id name type is_default"),
	leadgridtest.Stages:   strings.Fields("id flow_id name position deadline_days win_probability color"),
	leadgridtest.Notes:    strings.Fields("id dossier_id content is_internal created_at"),
}

func plain(key string, value any) any {
	switch v := value.(type) {
	case string:
		if strings.HasSuffix(key, "_at") {
			t, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				panic(err)
			}
			return t.UTC()
		}
	case []any:
		list := []string{}
		for _, item := range v {
			list = append(list, item.(string))
		}
		return list
	}
	return value
}

func TestEverythingReadEqualsTheSnapshot(t *testing.T) {
	for name, h := range map[string]leadgridtest.Habits{
		"plain":    {},
		"short":    {IDs: "short", Order: "newest", HideArchived: true, PastEnd: "repeat"},
		"awkward":  {IDs: "awkward", Order: "random", OmitNulls: true, UnknownFields: true},
		"updated":  {Order: "updated", Timestamps: "mixed", PerPage: "fixed"},
		"oldest":   {Order: "updated-oldest", Timestamps: "postgres", MaxPerPage: 7},
		"seconds":  {Timestamps: "seconds", SubLists: "whole"},
		"micros":   {Timestamps: "micros", MetaTotal: "drifting"},
		"nanos":    {Timestamps: "nanos"},
		"offset":   {Timestamps: "offset", MetaTotal: "missing"},
		"no tales": {RateHeaders: "absent"},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, leadgridtest.Options{Settings: leadgridtest.Settings{Habits: h}, Seed: 7})
			l.Seed(leadgridtest.Size{Dossiers: 90, Contacts: 70, Links: 120, Notes: 150, Flows: 2})
			l.Stir(300)
			compare(t, l.everything(), l.Snapshot())
		})
	}
}

func compare(t *testing.T, got, want leadgridtest.Snapshot) {
	t.Helper()
	for table, rows := range want {
		if len(got[table]) != len(rows) || len(rows) == 0 {
			t.Errorf("%s: %d rows, want %d", table, len(got[table]), len(rows))
		}
		for id, row := range rows {
			if !reflect.DeepEqual(got[table][id], row) {
				t.Errorf("%s %s:\n got %v\nwant %v", table, id, got[table][id], row)
			}
		}
	}
}

func TestOddData(t *testing.T) {
	l := start(t, leadgridtest.Options{})
	l.Seed(leadgridtest.Size{Dossiers: 16, Contacts: 8, Odd: 1})
	statuses, types := map[string]bool{}, map[string]bool{}
	raw := ""
	for _, id := range l.DossierIDs() {
		g := l.want(200, "GET", at("dossiers", id), nil)
		raw += g.raw
		statuses[g.data()["status"].(string)], types[g.data()["type"].(string)] = true, true
	}
	if !statuses["on_hold"] || !types["freelance"] {
		t.Errorf("statuses %v, types %v", statuses, types)
	}
	for _, want := range []string{`\u0000`, `\ud800`, ":1e400", "12345678901234567890.123456789012345678"} {
		if !strings.Contains(raw, want) {
			t.Errorf("no dossier holds %s", want)
		}
	}
	if contacts := l.want(200, "GET", "/contacts", nil).raw; !strings.Contains(contacts, "alumnus") {
		t.Error("no contact has an unknown kind")
	}
}

func TestReplicaLag(t *testing.T) {
	now := time.Date(2026, 4, 15, 10, 30, 0, 0, time.UTC)
	l := start(t, leadgridtest.Options{
		Now: func() time.Time { return now }, Seed: 5,
		Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{ReplicaLag: 30 * time.Second}},
	})
	l.Seed(leadgridtest.Size{Dossiers: 40, Contacts: 30, Links: 50, Notes: 60})
	before := l.Snapshot()
	l.Stir(200)
	after := l.Snapshot()
	if reflect.DeepEqual(before, after) {
		t.Fatal("nothing was changed")
	}
	compare(t, l.everything(), before) // lag or not, nothing is 30 seconds old
	now = now.Add(31 * time.Second)
	compare(t, l.everything(), after)

	// Between the two a read sees some of the changes, and a later read no fewer.
	id := l.DossierIDs()[0]
	for i := range 30 {
		now = now.Add(time.Second)
		must(0, l.UpdateDossier(id, leadgridtest.Fields{"city": strconv.Itoa(i)}))
	}
	last, seen := -1, map[int]bool{}
	for range 20 {
		city := l.want(200, "GET", at("dossiers", id), nil).data()["city"].(string)
		n := must(strconv.Atoi(city))
		if n < last {
			t.Errorf("the replica went back from %d to %d", last, n)
		}
		last, seen[n] = n, true
	}
	if len(seen) < 2 {
		t.Errorf("always the same lag: %v", seen)
	}
	l.Change(func(s *leadgridtest.Settings) { s.Habits.ReplicaLag = 0 })
	if city := l.want(200, "GET", at("dossiers", id), nil).data()["city"]; city != "29" {
		t.Errorf("city %v without a lag", city)
	}
}
