package budget

import (
	"slices"
	"time"
)

const (
	// slotsPerWindow is how many slots of a history cover one window.
	slotsPerWindow = 128
	// slotsKept is how many slots are kept at least: two windows, and the time until all replicas have told what they saw.
	slotsKept = 2*slotsPerWindow + 64
)

// history is when accepted requests were sent, in slots of equal length. It grows at its end and is cut in large steps,
// so that storing it again logs little.
type history struct {
	Start time.Time     `json:"start,omitzero"`
	Slot  time.Duration `json:"slot,omitempty"`
	Count []int         `json:"count,omitempty"`
}

// add notes a request sent at t. If window has changed, slots become longer or shorter to go with it.
func (h *history) add(t time.Time, window time.Duration) {
	want := max(window/slotsPerWindow, settled/96)
	if h.Slot == 0 || len(h.Count) == 0 {
		*h = history{Start: t, Slot: want}
	}
	for want >= 2*h.Slot {
		h.coarser()
	}
	for 2*want <= h.Slot {
		h.finer()
	}
	i := int(t.Sub(h.Start) / h.Slot)
	switch {
	case t.Before(h.Start):
		i = 0
	case i-len(h.Count) > 2*slotsKept:
		*h = history{Start: t, Slot: h.Slot}
		i = 0
	}
	for len(h.Count) <= i {
		h.Count = append(h.Count, 0)
	}
	h.Count[i]++
	if len(h.Count) > 2*slotsKept {
		h.keep(slotsKept)
	}
}

// keep drops all but the last n slots.
func (h *history) keep(n int) {
	if cut := len(h.Count) - n; cut > 0 {
		h.Count = slices.Delete(h.Count, 0, cut)
		h.Start = h.at(cut)
	}
}

func (h *history) coarser() {
	merged := make([]int, (len(h.Count)+1)/2)
	for i, n := range h.Count {
		merged[i/2] += n
	}
	h.Count, h.Slot = merged, 2*h.Slot
}

func (h *history) finer() {
	h.keep(slotsKept)
	split := make([]int, 0, 2*len(h.Count))
	for _, n := range h.Count {
		split = append(split, 0, n) // no older than they were, so that none is thought to have stopped counting
	}
	h.Count, h.Slot = split, h.Slot/2
}

func (h *history) at(i int) time.Time { return h.Start.Add(time.Duration(i) * h.Slot) }

// last returns the slot of the n-th last request, counted from the slot that t is in, and how many of that slot's are
// among those n.
func (h *history) last(t time.Time, n int) (slot, of int, ok bool) {
	if h.Slot == 0 || t.Before(h.Start) || n < 1 {
		return 0, 0, false
	}
	for i := min(int(t.Sub(h.Start)/h.Slot), len(h.Count)-1); i >= 0; i-- {
		if n <= h.Count[i] {
			return i, n, true
		}
		n -= h.Count[i]
	}
	return 0, 0, false
}

// before counts how many of the n last requests, counted from t, were sent before another time.
func (h *history) before(t time.Time, n int, limit time.Time) int {
	i, of, ok := h.last(t, n)
	if !ok {
		return 0
	}
	count := 0
	for ; i < len(h.Count) && !h.at(i+1).After(limit) && !h.at(i).After(t); i++ {
		count += of
		if i+1 < len(h.Count) {
			of = h.Count[i+1]
		}
	}
	return min(count, n)
}
