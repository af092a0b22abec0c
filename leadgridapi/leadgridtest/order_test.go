package leadgridtest

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// An order must give the pages that a plain slice gives, whatever was added, moved and removed before, over
// many blocks and compactions.
func TestOrderPagesLikeASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := newTable(5, func(v *int) int { return *v % 5 })
	var created, changed []string
	forget := func(list []string, id string) []string {
		i := slices.Index(list, id)
		return slices.Delete(list, i, i+1)
	}
	for step := range 12_000 {
		value := rng.IntN(1000)
		switch p := rng.IntN(10); {
		case p < 3 || len(created) == 0:
			id := strconv.Itoa(step)
			rows.put(id, &value)
			created, changed = append(created, id), append(changed, id)
		case p < 9:
			id := pick(rng, created)
			rows.put(id, &value)
			changed = append(forget(changed, id), id)
		default:
			id := pick(rng, created)
			rows.remove(id)
			created, changed = forget(created, id), forget(changed, id)
		}
		if step%50 == 0 {
			check := func(habit string, ids []string) {
				f := filter[int]{}
				switch rng.IntN(3) {
				case 0:
					f.classes = []int{1, 3}
				case 1:
					f.classes, f.match = []int{0, 1}, func(s *slot[int]) bool { return *s.row > 300 }
				}
				var want []string
				for _, id := range ids {
					s := rows.get(id)
					if (f.classes == nil || slices.Contains(f.classes, *s.row%5)) && (f.match == nil || f.match(s)) {
						want = append(want, id)
					}
				}
				if total := rows.created.total(f); total != len(want) {
					t.Fatalf("step %d: total %d, want %d", step, total, len(want))
				}
				skip := rng.IntN(len(want) + 2)
				var got []string
				for _, s := range rows.page(f, habit, skip, 40, rng) {
					got = append(got, s.id)
				}
				want = want[min(skip, len(want)):]
				if want = want[:min(40, len(want))]; !slices.Equal(got, want) {
					t.Fatalf("step %d, %s after %d: %v, want %v", step, habit, skip, got, want)
				}
			}
			check("", created)
			check("updated-oldest", changed)
			reversed := slices.Clone(created)
			slices.Reverse(reversed)
			check("newest", reversed)
			reversed = slices.Clone(changed)
			slices.Reverse(reversed)
			check("updated", reversed)
			shuffled := slices.Clone(created)
			slices.SortFunc(shuffled, func(a, b string) int { return byHash(rows.get(a), rows.get(b)) })
			check("random", shuffled)
		}
	}
	if len(rows.changed.rows) > 3*rows.changed.live+2*blockSize {
		t.Errorf("%d places for %d rows: holes are never closed", len(rows.changed.rows), rows.changed.live)
	}
}
