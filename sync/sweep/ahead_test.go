package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// Pages are asked for side by side and come in their order; what was asked for on a wrong guess is left out.
func TestPagesAreReadSideBySide(t *testing.T) {
	const most = 40 // rows that LeadGrid gives at once, from the fourth page on
	rows := 730
	together := make(chan bool)
	l := listing{kind: mappings.Contacts, endpoint: mirror.ListContacts}
	l.fetch = func(ctx context.Context, at window) (mirror.Observation, page, error) {
		if at.Page == 2 || at.Page == 3 { // neither is answered before the other has been asked for
			select {
			case together <- true:
			case <-together:
			case <-ctx.Done():
				return mirror.Observation{}, page{}, ctx.Err()
			}
		}
		end := min(at.end(), rows)
		if at.Page > 3 {
			end = min(end, at.start()+most)
		}
		var objects []json.RawMessage
		for i := at.start(); i < end; i++ {
			objects = append(objects, fmt.Appendf(nil, `{"id":"%d"}`, i))
		}
		return mirror.Observation{Number: int64(at.Page)}, pageOf(objects, leadgridapi.Meta{Total: &rows}), nil
	}
	w := &Sweeper{mirror: mirror.New(nil, mirror.Options{})}
	s := &Sweep{Progress: Progress{Walk: &walk{Pass: 1}}, deadline: time.Now().Add(time.Hour)}
	s.reading = w.readAhead(t.Context(), s, l)
	defer s.stop()
	var came, want []window
	k := walk{Pass: 1}
	for range 8 {
		for _, page := range s.reading.next() {
			if page.err != nil || len(page.read.Objects) != len(page.answer.objects) {
				t.Fatalf("page %v: %d of %d objects, %v", page.asked, len(page.read.Objects), len(page.answer.objects), page.err)
			}
			came, want = append(came, page.asked), append(want, k.next())
			k.take(page.asked, page.answer, true)
		}
	}
	if len(came) < 4 || !slices.Equal(came, want) {
		t.Errorf("windows %v, want %v", came, want)
	}
	if wasted := s.reading.requests.Load() - int64(len(came)); wasted < 1 || wasted > 2*sideBySide {
		t.Errorf("%d of %d requests were for nothing", wasted, s.reading.requests.Load())
	}
}

func TestWindowsAhead(t *testing.T) {
	total := 250
	for _, row := range []struct {
		what string
		walk walk
		want int
	}{
		{"nothing is known", walk{}, 1},
		{"LeadGrid counts more", walk{Next: 100, Total: &total}, 2},
		{"LeadGrid counts no more", walk{Next: 240, Total: &total}, 1},
		{"pages of a fixed size", walk{Next: 50, Fixed: 50, Total: &total}, 3},
	} {
		if got := row.walk.ahead(3); len(got) != row.want {
			t.Errorf("%s: %v", row.what, got)
		}
	}
}
