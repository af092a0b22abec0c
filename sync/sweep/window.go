package sweep

// LeadGrid pages by offset and promises no order, so that a row that is deleted ahead of the page being read shifts
// another one past it, unseen. Windows that overlap by a few rows show such a shift: each shares a row with the one
// before, or the sweep steps back.

const (
	maxPerPage = 100
	minPerPage = 50
	overlap    = 4
)

// window is a page as LeadGrid counts: page is 1-based.
type window struct {
	Page, PerPage int
}

func (w window) start() int { return (w.Page - 1) * w.PerPage }
func (w window) end() int   { return w.Page * w.PerPage }

// windowAt gives the window that begins at or just before offset from and reaches furthest. Pages start at multiples of
// their size only: a few sizes come close to any offset.
func windowAt(from int) window {
	best := window{Page: 1, PerPage: maxPerPage}
	if from <= 0 {
		return best
	}
	best = window{}
	for size := maxPerPage; size >= minPerPage; size-- {
		w := window{Page: from/size + 1, PerPage: size}
		if best.PerPage == 0 || w.end() > best.end() {
			best = w
		}
	}
	return best
}
