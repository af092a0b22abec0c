package leadgridapi

import (
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strconv"
)

// MaxPerPage is the largest page LeadGrid serves.
const MaxPerPage = 100

// A PageRequest asks for one page of a list. Its zero value leaves the choice to
// LeadGrid, which answers with the first 25 objects.
type PageRequest struct {
	Page    int // counted from 1; 0 for LeadGrid's default
	PerPage int // at most [MaxPerPage], which larger numbers become; 0 for LeadGrid's default
}

// addTo returns the query of a filter with the page's numbers beside it.
func (p PageRequest) addTo(filter url.Values) url.Values {
	query := maps.Clone(filter)
	if query == nil {
		query = url.Values{}
	}
	if p.Page > 0 {
		query.Set("page", strconv.Itoa(p.Page))
	}
	if p.PerPage > 0 {
		query.Set("per_page", strconv.Itoa(min(p.PerPage, MaxPerPage)))
	}
	return query
}

// Meta is what LeadGrid says about a page. Fields it leaves out are nil.
type Meta struct {
	Total   *int `json:"total"`    // of the whole list; counted separately, so only a hint
	Page    *int `json:"page"`     // counted from 1
	PerPage *int `json:"per_page"` // may differ from the request's

	Raw json.RawMessage `json:"-"` // as it came, nil if it did not
}

// UnmarshalJSON decodes m as the package documentation says of objects.
func (m *Meta) UnmarshalJSON(raw []byte) error { return decode(raw, m, &m.Raw) }

// Ends reports whether a page that was requested with [MaxPerPage] is certainly
// the last of its list. objects is how many it holds, and seen how many were
// seen up to and including it. The last page is empty, or it is shorter than
// LeadGrid's pages and as many objects were seen as the list counts. The count
// alone proves nothing, and LeadGrid may always serve short pages, whatever it
// says of their size. A short first page of a round number of objects, as pages
// have, is therefore not believed to be the last: the count may be a few off,
// and agree with it by chance.
func (m Meta) Ends(objects, seen int) bool {
	size := MaxPerPage
	if m.PerPage != nil {
		size = *m.PerPage
	}
	round := objects == seen && objects >= 10 && objects%5 == 0
	return objects == 0 || m.Total != nil && objects < size && seen == *m.Total && !round
}

// A Page is one page of a list.
type Page[T any] struct {
	Items []T
	Meta  Meta
	Raw   json.RawMessage // the whole answer
}

// pages iterates over the objects of a list, page by page. LeadGrid does not say
// what a page past the end looks like, or whether every list has pages. So
// the list ends with a page that is certainly the last, with a 404 after the
// first page, or with a page that only repeats objects of the first or previous
// page. key identifies the list's objects.
func pages[T any](fetch func(PageRequest) (Page[T], error), key func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var first, previous map[string]bool
		yielded := 0
		for n := 1; ; n++ {
			page, err := fetch(PageRequest{Page: n, PerPage: MaxPerPage})
			if n > 1 && errors.Is(err, ErrNotFound) {
				return
			}
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			keys := make(map[string]bool, len(page.Items))
			fresh := false
			for _, item := range page.Items {
				k := key(item)
				keys[k] = true
				fresh = fresh || !first[k] && !previous[k]
			}
			if !fresh {
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			yielded += len(page.Items)
			if page.Meta.Ends(len(page.Items), yielded) {
				return
			}
			if n == 1 {
				first = keys
			}
			previous = keys
		}
	}
}

// query makes a filter's query of names and values, and leaves out empty values.
func query(namesAndValues ...string) url.Values {
	q := url.Values{}
	for pair := range slices.Chunk(namesAndValues, 2) {
		if name, value := pair[0], pair[1]; value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// keyOr returns the id or, if LeadGrid sent none, the whole object.
func keyOr(id string, raw json.RawMessage) string {
	if id != "" {
		return id
	}
	return string(raw)
}
