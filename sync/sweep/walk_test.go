package sweep

import (
	"encoding/json"
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
