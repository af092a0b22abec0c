package leadgridtest

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

func listFlows(c *call) (got answer, err error) {
	typ, err := choice(c.r.URL.Query(), "type", dossierTypes[:2])
	if err != nil {
		return answer{}, err
	}
	f := filter[flow]{}
	if typ != "" {
		f.classes = []int{index(dossierTypes, typ)}
	}
	err = c.organization.view(c.lag, func(s *state) (err error) {
		got, err = listTable(c, s.flows, f, func(s *slot[flow], w *writer) {
			w.object(Flows, s.id, func(v visit) {
				s.row.each(v)
				v("stages", s.row.stages)
			})
		})
		return err
	})
	return got, err
}

// listStages is not said to page: all stages are on the one page, whatever is asked for.
func listStages(c *call) (got answer, err error) {
	err = c.organization.view(c.lag, func(s *state) error {
		f := s.flows.get(c.args[0])
		if f == nil {
			return errNotFound
		}
		stages := f.row.stages
		p := pages{number: 1, told: max(defaultPerPage, len(stages))}
		got = c.list(p, len(stages), len(stages), func(i int, w *writer) {
			w.object(Stages, stages[i].id, func(v visit) { stages[i].each(f.id, v) })
		})
		return nil
	})
	return got, err
}

// storeStages stores a flow with other stages, by position.
func (c *change) storeStages(old *flow, stages []stage) {
	f := *old
	slices.SortStableFunc(stages, func(a, b stage) int { return cmp.Compare(a.position, b.position) })
	f.stages = stages
	c.do(func(s *state) { s.flows.put(f.id, &f) })
}

// arrange puts the rows of a short list, stored oldest first, in the order the habit names.
func arrange[T any](rows []T, habit string, id func(T) string, rng *rand.Rand) []T {
	rows = slices.Clone(rows)
	switch habit {
	case "newest", "updated":
		slices.Reverse(rows)
	case "random":
		slices.SortFunc(rows, func(a, b T) int { return cmp.Compare(hash(id(a)), hash(id(b))) })
	case "unstable":
		rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	}
	return rows
}
