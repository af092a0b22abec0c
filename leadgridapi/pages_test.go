package leadgridapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// A lister is one reading of what the reference leaves open about lists.
type lister struct {
	rows    int    // how many there are
	largest int    // the server's own bound on per_page
	pastEnd string // what a page past the end is: empty, missing, first, last
	unpaged bool   // the numbers are ignored, everything comes at once
	meta    string // full, none, low (a total that lags), high, or odd
}

func (l lister) serve(requests *int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if *requests++; *requests > 20 {
			w.WriteHeader(http.StatusTeapot) // an iterator without end
			return
		}
		number, _ := strconv.Atoi(r.URL.Query().Get("page"))
		per, _ := strconv.Atoi(r.URL.Query().Get("per_page"))
		per = min(per, l.largest)
		from := (number - 1) * per
		if from >= l.rows && number > 1 {
			switch l.pastEnd {
			case "missing":
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"error": {"code": "not_found"}}`)
				return
			case "first":
				number, from = 1, 0
			case "last":
				number = (l.rows + per - 1) / per
				from = (number - 1) * per
			}
		}
		to := min(from+per, l.rows)
		if l.unpaged {
			from, to, number = 0, l.rows, 1
		}
		rows := []map[string]any{}
		for i := from; i < to; i++ {
			rows = append(rows, map[string]any{"id": fmt.Sprint("d", i), "name": fmt.Sprint(*requests)})
		}
		body := map[string]any{"data": rows}
		total := l.rows
		switch l.meta {
		case "none":
		case "odd":
			body["meta"] = []any{}
		case "low":
			total = l.rows / 2
			fallthrough
		case "high":
			total = max(total, l.rows*2*strings.Count(l.meta, "high"))
			fallthrough
		default:
			body["meta"] = map[string]any{"total": total, "page": number, "per_page": per}
		}
		_ = json.NewEncoder(w).Encode(body)
	}
}

// All rows come once and in order, whatever LeadGrid means.
func TestAllPages(t *testing.T) {
	for _, rows := range []int{0, 1, 99, 100, 101, 200, 250} {
		for _, largest := range []int{25, 100} {
			for _, pastEnd := range []string{"empty", "missing", "first", "last"} {
				for _, meta := range []string{"full", "none", "low", "high", "odd"} {
					for _, unpaged := range []bool{false, true} {
						l := lister{rows, largest, pastEnd, unpaged, meta}
						t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) { l.test(t) })
					}
				}
			}
		}
	}
}

func (l lister) test(t *testing.T) {
	requests := 0
	client := serve(t, l.serve(&requests))
	var got []string
	for d, err := range client.Dossiers(t.Context(), leadgridapi.DossierFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, d.ID)
	}
	var want []string
	for i := range l.rows {
		want = append(want, fmt.Sprint("d", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d rows: %v", len(got), got)
	}
	// One request beyond the pages there are tells the end, at most.
	if most := max(1, (l.rows+l.largest-1)/l.largest) + 1; requests > most {
		t.Errorf("%d requests, want at most %d", requests, most)
	}
	if l.meta == "full" && l.rows%l.largest != 0 && !l.unpaged && requests != l.rows/l.largest+1 {
		t.Errorf("%d requests, although the meta tells the end", requests)
	}
}

func TestIteratorsStop(t *testing.T) {
	var pages int
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		pages++
		if r.URL.Query().Get("page") == "2" || strings.Contains(r.URL.Path, "gone") {
			answer(404, "<html>not LeadGrid's 404</html>")(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"data": [{"id": "1"}, {"id": "2"}]}`)
	})

	var ids []string
	var errs []error
	for n, err := range client.Notes(t.Context(), "d") {
		if err != nil {
			errs = append(errs, err)
			continue // going on does not ask again
		}
		ids = append(ids, n.ID)
	}
	if !slices.Equal(ids, []string{"1", "2"}) || len(errs) != 1 || pages != 2 {
		t.Errorf("got %q, then %v, in %d requests", ids, errs, pages)
	}

	pages = 0
	for range client.Notes(t.Context(), "d") {
		break
	}
	if pages != 1 {
		t.Errorf("%d requests after a break", pages)
	}

	for _, err := range client.Links(t.Context(), "") {
		if !errors.Is(err, leadgridapi.ErrInvalidInput) {
			t.Errorf("got %v", err)
		}
	}
}

// A dossier that does not exist has no notes to end.
func TestNotFoundOnTheFirstPage(t *testing.T) {
	client := serve(t, answer(404, `{"error": {"code": "not_found"}}`))
	n := 0
	for _, err := range client.Notes(t.Context(), "x") {
		n++
		if !errors.Is(err, leadgridapi.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

// Each iterator sends what it was given, and knows its objects again although
// they changed.
func TestEveryIterator(t *testing.T) {
	var uris []string
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		uris = append(uris, strings.TrimPrefix(r.RequestURI, "/api/v1"))
		_, _ = fmt.Fprintf(w, `{"data": [{"id": "1", "contact_id": "1", "n": %d}]}`, len(uris))
	})
	ctx := t.Context()
	kinds := []string{"client"}
	contacts := client.Contacts(ctx, leadgridapi.ContactFilter{Kinds: kinds, Search: "a"})
	kinds[0] = "changed after the call"
	n := 0
	for range client.Dossiers(ctx, leadgridapi.DossierFilter{Status: "won"}) {
		n++
	}
	for range contacts {
		n++
	}
	for range contacts { // again, from the first page
		n++
	}
	for range client.Links(ctx, "d") {
		n++
	}
	for range client.Flows(ctx, leadgridapi.FlowFilter{Type: "sales"}) {
		n++
	}
	for range client.Stages(ctx, "f") {
		n++
	}
	for range client.Notes(ctx, "d") {
		n++
	}
	var want []string
	for _, uri := range []string{
		"/dossiers?page=%d&per_page=100&status=won",
		"/contacts?kind=client&page=%d&per_page=100&search=a",
		"/contacts?kind=client&page=%d&per_page=100&search=a",
		"/dossiers/d/contacts?page=%d&per_page=100",
		"/flows?page=%d&per_page=100&type=sales",
		"/flows/f/stages?page=%d&per_page=100",
		"/dossiers/d/notes?page=%d&per_page=100",
	} {
		want = append(want, fmt.Sprintf(uri, 1), fmt.Sprintf(uri, 2))
	}
	if !slices.Equal(uris, want) {
		t.Errorf("got  %q\nwant %q", uris, want)
	}
	if n != 7 {
		t.Errorf("got %d objects from 7 lists of one", n)
	}
}

// Objects without an id are told apart by all they are.
func TestPagesWithoutIDs(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"data": [{"name": "`+r.URL.Query().Get("page")[:1]+`"}]}`)
	})
	n := 0
	for range client.Flows(t.Context(), leadgridapi.FlowFilter{}) {
		if n++; n == 12 { // pages 10 to 12 repeat page 1
			t.Fatal("no end")
		}
	}
	if n != 9 {
		t.Errorf("got %d flows", n)
	}
}

// Pages of ten, whatever is asked for: meta.per_page may tell that, or what was asked for, and the total may be wrong.
func TestPagesSmallerThanAskedFor(t *testing.T) {
	for _, told := range []string{"served", "asked"} {
		for _, total := range []string{"exact", "drifting", "missing", "none"} {
			if told == "asked" && total == "missing" {
				continue // then a short page looks like the end, and nothing tells
			}
			t.Run(told+"/"+total, func(t *testing.T) {
				server := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{
					Habits: leadgridtest.Habits{MaxPerPage: 10, MetaPerPage: told, MetaTotal: total},
				}})
				defer server.Close()
				server.Seed(leadgridtest.Size{Contacts: 110})
				client, err := leadgridapi.New(server.URL(), server.Key())
				if err != nil {
					t.Fatal(err)
				}
				seen := make(map[string]bool)
				for contact, err := range client.Contacts(t.Context(), leadgridapi.ContactFilter{}) {
					if err != nil {
						t.Fatal(err)
					}
					seen[contact.ID] = true
				}
				if len(seen) != 110 {
					t.Errorf("%d of 110 contacts", len(seen))
				}
			})
		}
	}
}

func TestMetaEnds(t *testing.T) {
	n := func(n int) *int { return &n }
	for _, row := range []struct {
		what          string
		meta          leadgridapi.Meta
		objects, seen int
		ends          bool
	}{
		{"an empty page", leadgridapi.Meta{}, 0, 100, true},
		{"a short page that completes the count", leadgridapi.Meta{Total: n(110), PerPage: n(100)}, 10, 110, true},
		{"a short first page that completes the count", leadgridapi.Meta{Total: n(26), PerPage: n(100)}, 26, 26, true},
		{"one of as many as pages may have", leadgridapi.Meta{Total: n(25), PerPage: n(100)}, 25, 25, false},
		{"a full page that completes the count", leadgridapi.Meta{Total: n(100), PerPage: n(100)}, 100, 100, false},
		{"a short page before the count", leadgridapi.Meta{Total: n(110), PerPage: n(100)}, 10, 20, false},
		{"a short page that nothing counts, by a server that repeats what it was asked", leadgridapi.Meta{PerPage: n(100)}, 10, 10, false},
	} {
		if got := row.meta.Ends(row.objects, row.seen); got != row.ends {
			t.Errorf("%s: Ends = %v, want %v", row.what, got, row.ends)
		}
	}
}
