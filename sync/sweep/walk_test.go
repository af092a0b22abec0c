package sweep

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// A server that serves two rows a page, counts two, and shuffles its three rows for every answer: the second page adds nothing.
func TestPageOfRowsThatWereElsewhereProvesNothing(t *testing.T) {
	rows := func(ids ...string) page {
		objects := make([]json.RawMessage, len(ids))
		for i, id := range ids {
			objects[i] = json.RawMessage(`{"id":"` + id + `"}`)
		}
		p := pageOf(objects, leadgridapi.Meta{})
		two := 2
		p.meta.PerPage, p.meta.Total = &two, &two
		return p
	}
	for _, row := range []struct {
		what   string
		second page
		proves bool
	}{
		{"the last page again", rows("a", "b"), true},
		{"other rows, all known", rows("b"), false},
	} {
		k := &walk{Pass: 1}
		if k.take(window{1, maxPerPage}, rows("a", "b"), true) {
			t.Fatal("a full page ended the list")
		}
		if !k.take(window{2, 2}, row.second, false) {
			t.Errorf("%s: a page without news did not end the list", row.what)
		}
		if k.Loose == row.proves {
			t.Errorf("%s: loose %v, want %v", row.what, k.Loose, !row.proves)
		}
	}
}

// A server that serves 25 rows a page whatever it is asked for, says that it serves 100, and counts a few rows too little: the count
// agrees with the page, and the second page has three rows more.
func TestCountThatHappensToAgreeEndsNoList(t *testing.T) {
	rows := func(n int) page {
		objects := make([]json.RawMessage, n)
		for i := range objects {
			objects[i] = fmt.Appendf(nil, `{"id":"%d"}`, i)
		}
		p := pageOf(objects, leadgridapi.Meta{})
		size := maxPerPage
		p.meta.PerPage, p.meta.Total = &size, &n
		return p
	}
	k := &walk{Pass: 1}
	if k.take(window{1, maxPerPage}, rows(25), true) {
		t.Error("a page of 25 was taken for the whole list")
	}
	if next := k.next(); next != (window{2, 25}) {
		t.Errorf("the next window is %v, want the second page of 25", next)
	}
	if k = (&walk{Pass: 1}); !k.take(window{1, maxPerPage}, rows(28), true) {
		t.Error("28 rows, as counted, are no page of any server")
	}
}
