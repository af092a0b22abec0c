package sweep

import (
	"testing"

	"pgregory.net/rapid"
)

func TestWindowAtCoversItsOffsetAndMovesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, 2_000_000).Draw(t, "from")
		w := windowAt(from)
		if w.start() > from || w.end() <= from {
			t.Fatalf("windowAt(%d) = [%d, %d)", from, w.start(), w.end())
		}
		if w.PerPage > maxPerPage || w.PerPage < minPerPage {
			t.Fatalf("windowAt(%d) asks for %d rows", from, w.PerPage)
		}
	})
}

func TestWindowsCostAtMostAFifthMore(t *testing.T) {
	for _, rows := range []int{1_000, 10_000, 100_000} {
		requests, end := 0, 0
		for end < rows {
			w := windowAt(end - overlap)
			if end > 0 && w.start() > end-overlap {
				t.Fatalf("window [%d, %d) leaves a gap behind %d", w.start(), w.end(), end)
			}
			end = w.end()
			requests++
		}
		if least := rows / maxPerPage; requests*5 > least*6 {
			t.Errorf("%d rows take %d requests, the least possible is %d", rows, requests, least)
		} else {
			t.Logf("%d rows: %d requests, %.3f of the least possible", rows, requests, float64(requests)/float64(least))
		}
	}
}
