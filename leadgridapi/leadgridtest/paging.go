package leadgridtest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

const defaultPerPage = 25

// pages is what a list request asks for, as this LeadGrid reads it.
type pages struct {
	number, size int
	told         int // the size that meta claims
}

func (c *call) pages(query url.Values) (pages, error) {
	habits := &c.settings.Habits
	limit := cmp.Or(habits.MaxPerPage, 100)
	p := pages{number: 1, size: min(defaultPerPage, limit)}
	for name, to := range map[string]*int{"page": &p.number, "per_page": &p.size} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return p, invalid("%s must be a whole number from 1", name)
		}
		*to = n
	}
	p.told = p.size
	switch {
	case habits.PerPage == "fixed":
		p.size = min(defaultPerPage, limit)
	case p.size > limit && habits.PerPage == "refused":
		return p, invalid("per_page must not exceed %d", limit)
	}
	p.size = min(p.size, limit)
	if habits.MetaPerPage != "asked" {
		p.told = p.size
	}
	p.number = min(p.number, 1<<40/p.size) // far past any end, and no overflow
	return p, nil
}

// skip is how many of total rows come before the page; a page past the end is what the habit makes of it.
func (p pages) skip(habit string, total int) (int, error) {
	skip := (p.number - 1) * p.size
	if skip < total || p.number == 1 {
		return skip, nil
	}
	switch habit {
	case "not-found":
		return 0, errNotFound
	case "repeat":
		return max(total-1, 0) / p.size * p.size, nil
	}
	return total, nil
}

// list writes {"data": […], "meta": {…}}; each row is written by its own function.
func (c *call) list(p pages, total, rows int, row func(i int, w *writer)) answer {
	w := c.settings.Habits.writer(c.settings.omitList, c.rng)
	w.buf = append(make([]byte, 0, 64+640*rows), `{"data":[`...)
	for i := range rows {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		row(i, w)
	}
	w.buf = append(w.buf, ']')
	if meta := c.settings.Habits.MetaTotal; meta != "none" {
		w.buf = append(w.buf, `,"meta":{`...)
		if meta != "missing" {
			if meta == "drifting" {
				total = max(0, total-3+c.rng.IntN(7))
			}
			w.buf = append(strconv.AppendInt(append(w.buf, `"total":`...), int64(total), 10), ',')
		}
		w.buf = strconv.AppendInt(append(w.buf, `"page":`...), int64(p.number), 10)
		w.buf = strconv.AppendInt(append(w.buf, `,"per_page":`...), int64(p.told), 10)
		w.buf = append(w.buf, '}')
	}
	w.buf = append(w.buf, "}\n"...)
	return answer{http.StatusOK, w.buf}
}

// listTable answers with one page of a table.
func listTable[R any](c *call, rows *table[R], f filter[R], row func(*slot[R], *writer)) (answer, error) {
	p, err := c.pages(c.r.URL.Query())
	if err != nil {
		return answer{}, err
	}
	total := rows.created.total(f)
	skip, err := p.skip(c.settings.Habits.PastEnd, total)
	if err != nil {
		return answer{}, err
	}
	page := rows.page(f, c.settings.Habits.Order, skip, p.size, c.rng)
	return c.list(p, total, len(page), func(i int, w *writer) { row(page[i], w) }), nil
}

// subList answers with one page of a dossier's notes or links.
func (c *call) subList(total int, row func(i int, w *writer)) (answer, error) {
	p, err := c.pages(c.r.URL.Query())
	if err != nil {
		return answer{}, err
	}
	first, rows := 0, min(total, p.size)
	switch c.settings.Habits.SubLists {
	case "whole":
		rows = total
		if p.number > 1 {
			rows = 0
		}
	case "repeated":
		rows = total
	case "stuck":
	default:
		if first, err = p.skip(c.settings.Habits.PastEnd, total); err != nil {
			return answer{}, err
		}
		rows = max(0, min(p.size, total-first))
	}
	if rows > p.size {
		p.told = rows
	}
	return c.list(p, total, rows, func(i int, w *writer) { row(first+i, w) }), nil
}

// choice reads a filter that takes one of the documented values.
func choice(query url.Values, name string, values []string) (string, error) {
	value := query.Get(name)
	if value == "" {
		return "", nil
	}
	if slices.Contains(values, value) {
		return value, nil
	}
	return "", invalid("%s cannot be %q", name, value)
}
