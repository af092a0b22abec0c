package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

const (
	// mostPasses bounds how often a list that does not hold still is passed over.
	mostPasses = 20
	// stepBacks bounds how often a pass steps back to find a row it knows, each time twice as far.
	stepBacks = 5
)

// listing is a list that can be walked.
type listing struct {
	kind     mappings.Kind
	endpoint mirror.Endpoint
	filter   string
	fetch    func(ctx context.Context, w window) (mirror.Observation, page, error)
	seen     func(s *Sweep, objects []json.RawMessage)
}

// page is what a list answered.
type page struct {
	objects []json.RawMessage
	meta    leadgridapi.Meta
	hashes  []byte // of the rows, as hashesOf gives them
}

func pageOf(objects []json.RawMessage, meta leadgridapi.Meta) page {
	return page{objects: objects, meta: meta, hashes: hashesOf(objects)}
}

// walk is the state of a pass over a list.
type walk struct {
	Pass  int    `json:"pass"`
	Next  int    `json:"next"`            // the offset up to which the pass has seen rows
	Last  []byte `json:"last,omitempty"`  // hashes of the rows of the page before, four bytes each
	Back  int    `json:"back,omitempty"`  // how far the next window steps back
	Tries int    `json:"tries,omitempty"` // how often it has stepped back already
	Fixed int    `json:"fixed,omitempty"` // the page size, where LeadGrid does not take ours
	Head  bool   `json:"head,omitempty"`  // reading the head again, for what came in meanwhile
	Loose bool   `json:"loose,omitempty"` // two pages of the pass shared no row, or not as they would in an order that holds
	Moves bool   `json:"moves,omitempty"` // the order was seen to move, in this pass or one before
	Total *int   `json:"total,omitempty"` // as LeadGrid counted last
	Quiet int    `json:"quiet,omitempty"` // passes in a row that saw nothing new

	bracketed bool // the organization was proved just before the next page is read
}

// next is the window to read.
func (k *walk) next() window {
	if k.Fixed > 0 {
		return window{Page: k.Next/k.Fixed + 1, PerPage: k.Fixed}
	}
	return windowAt(k.Next - overlap - k.Back)
}

// step commits the next pages of a list. It reports whether the list has been walked.
func (w *Sweeper) step(ctx context.Context, s *Sweep, l listing) (over bool, err error) {
	if s.Progress.Walk == nil {
		if err := w.started(ctx, s, l.kind); err != nil {
			return false, err
		}
		s.Progress.Walk = &walk{Pass: 1}
	}
	if s.reading == nil {
		s.reading = w.readAhead(ctx, s, l)
	}
	pages := s.reading.next()
	if len(pages) == 0 {
		s.stop()
		return false, ctx.Err()
	}
	s.Requests += s.reading.requests.Swap(0)
	last := pages[len(pages)-1]
	if last.err != nil {
		pages = pages[:len(pages)-1]
	}
	if len(pages) > 0 {
		over, err = w.commitPages(ctx, s, l, pages)
	}
	k := s.Progress.Walk
	k.bracketed = errors.Is(err, mirror.ErrUnproven)
	switch {
	case k.bracketed:
		s.stop()
		return false, nil // to be read again, between two proofs
	case err != nil:
		return false, err
	case last.err != nil && !(errors.Is(last.err, leadgridapi.ErrNotFound) && last.asked.Page > 1):
		return false, last.err
	case over || last.err != nil:
		s.stop()
		return w.endPass(ctx, s, l)
	}
	return false, nil
}

// commitPages applies pages together with the progress they make. Only the last may leave it in doubt what comes next.
func (w *Sweeper) commitPages(ctx context.Context, s *Sweep, l listing, pages []*read) (over bool, err error) {
	k := s.Progress.Walk
	thin := slices.Contains(s.Progress.Thin, l.kind)
	if l.kind == mappings.Flows && k.Pass == 1 && k.Next == 0 { // the others' heads have been looked at before
		if strange, err := w.strange(ctx, s, l.kind, pages[0].answer.objects); err != nil || strange {
			return false, err
		}
	}
	reads := make([]mirror.Read, len(pages))
	for i, page := range pages {
		if l.seen != nil {
			l.seen(s, page.answer.objects)
		}
		if thin {
			if err := w.readUnknown(ctx, s, l.kind, page.answer.objects); err != nil {
				return false, err
			}
		}
		reads[i] = page.read
	}
	return over, w.observer.ApplyPages(ctx, reads, k.bracketed, func(tx pgx.Tx, applied []mirror.Applied) (err error) {
		var all mirror.Applied
		for i, page := range pages {
			news := true
			if k.doubts(page.answer) {
				if news, err = w.news(ctx, tx, s.ID, l, k.Pass, page.read.Number, applied[i].Keys); err != nil {
					return err
				}
			}
			over = k.take(page.asked, page.answer, news)
			all.Add(applied[i])
		}
		s.Progress.Done, s.Progress.Total = k.Next, 0
		if k.Total != nil {
			s.Progress.Total = *k.Total
		}
		return w.saving(ctx, s)(tx, all)
	})
}

// doubts reports whether a page may be a repeat, so that it must be looked up what it adds: near the end, or where it
// shares nothing with the page before.
func (k *walk) doubts(p page) bool {
	total := k.Total
	if p.meta.Total != nil {
		total = p.meta.Total
	}
	return k.Head || (k.Next > 0 && (total == nil || k.Next >= *total || !k.shares(p)))
}

// take moves the walk on by what a window showed and reports whether the list has ended. News says whether the page added
// rows to the pass.
func (k *walk) take(asked window, p page, news bool) (ended bool) {
	if p.meta.Total != nil {
		k.Total = p.meta.Total
	}
	n := len(p.objects)
	if n == 0 || !news {
		if k.Fixed > 0 && n > 0 && len(k.Last) > 0 && !bytes.Equal(p.hashes, k.Last) {
			k.Loose, k.Moves = true, true // no page past the end: the rows of this one were elsewhere before
		}
		return true
	}
	size := asked.PerPage
	if p.meta.PerPage != nil && *p.meta.PerPage > 0 && k.Fixed == 0 {
		size = *p.meta.PerPage
	}
	if k.Fixed == 0 && size != asked.PerPage {
		// LeadGrid has its own idea of a page: count in its pages from here on.
		k.Fixed = size
		if asked.Page > 1 {
			k.Next, k.Last, k.Back, k.Tries = 0, nil, 0, 0
			return false
		}
	}
	switch {
	case k.Next == 0:
	case k.Fixed > 0:
		k.Loose = true // pages that cannot overlap prove nothing
		k.Moves = k.Moves || k.scattered(p)
	case k.scattered(p):
		k.Loose, k.Moves = true, true // and an overlap of rows that lie anywhere proves nothing either
	case !k.shares(p):
		if k.Tries < stepBacks {
			k.Tries++
			k.Back = 2*k.Back + maxPerPage/4
			return false
		}
		k.Loose = true
	}
	k.Back, k.Tries, k.Last = 0, 0, p.hashes
	k.Next = max(k.Next, (asked.Page-1)*size+n)
	if n >= size {
		return false
	}
	// A short page is the end if LeadGrid's count says so. Where the two disagree, or nothing is counted, the page may be a
	// small one, whatever LeadGrid says of its pages.
	if k.Total != nil && k.Next == *k.Total && (asked.Page > 1 || p.meta.Ends(n, n)) {
		return true
	}
	switch {
	case k.Fixed == 0 && asked.Page == 1:
		k.Fixed = n // the end, or a smaller page than LeadGrid says it is; the next page tells
	default:
		k.Next = max(k.Next, asked.Page*size)
	}
	return false
}

// strays is how many rows edits may have put in between without the order being said to move.
const strays = 2

// scattered reports whether rows of the page before turn up among the page's new ones: in an order that holds they come
// first.
func (k *walk) scattered(p page) bool {
	before := make(map[[4]byte]bool, len(k.Last)/4)
	for h := range slices.Chunk(k.Last, 4) {
		before[[4]byte(h)] = true
	}
	fresh, late := 0, 0
	for h := range slices.Chunk(p.hashes, 4) {
		switch {
		case !before[[4]byte(h)]:
			fresh++
		case fresh > strays:
			late++
		}
	}
	return late > strays
}

// shares reports whether the page shows a row that the page before showed.
func (k *walk) shares(p page) bool {
	known := make(map[[4]byte]bool, len(k.Last)/4)
	for h := range slices.Chunk(k.Last, 4) {
		known[[4]byte(h)] = true
	}
	for h := range slices.Chunk(p.hashes, 4) {
		if known[[4]byte(h)] {
			return true
		}
	}
	return false
}

func hashesOf(objects []json.RawMessage) []byte {
	hashes := make([]byte, 0, 4*len(objects))
	h := fnv.New32a()
	for _, object := range objects {
		id := []byte(object) // recognized by its text, where it has none
		fields, _ := leadgridapi.Members(object)
		for key, value := range fields {
			if string(key) == "id" {
				id = value
				break
			}
		}
		h.Reset()
		h.Write(id)
		hashes = h.Sum(hashes)
	}
	return hashes
}

// started notes when the reading of a kind began: what it will be complete as of.
func (w *Sweeper) started(ctx context.Context, s *Sweep, kind mappings.Kind) error {
	if _, ok := s.Progress.Starts[kind]; ok {
		return nil
	}
	at, err := w.mirror.Begin(ctx)
	if err != nil {
		return err
	}
	if s.Progress.Starts == nil {
		s.Progress.Starts = make(map[mappings.Kind]mirror.Observation)
	}
	s.Progress.Starts[kind] = at
	return nil
}

// endPass decides what the end of a pass means: the head is read again for what came in meanwhile; then a pass whose pages
// all overlapped and that saw as many rows as LeadGrid counts is believed, and any other is repeated until two agree.
func (w *Sweeper) endPass(ctx context.Context, s *Sweep, l listing) (over bool, err error) {
	k := s.Progress.Walk
	if !k.Head && k.Next > maxPerPage {
		*k = walk{Pass: k.Pass, Fixed: k.Fixed, Loose: k.Loose, Moves: k.Moves, Total: k.Total, Quiet: k.Quiet, Head: true}
		return false, nil
	}
	tally, err := w.tally(ctx, s.ID, l, k.Pass)
	if err != nil {
		return false, err
	}
	agrees := k.Total == nil || *k.Total == tally.pass
	if !k.Loose && agrees {
		return true, nil
	}
	if k.Pass > 1 && tally.fresh == 0 {
		k.Quiet++
	} else {
		k.Quiet = 0
	}
	enough := 1
	switch {
	case k.Moves:
		// Nothing but chance shows the rows, and LeadGrid's count, if there is one, is a hint. A pass misses a row once in three
		// or four times: after four such passes, one list in a hundred still had one that none had shown.
		enough = 8
	case k.Total != nil && tally.union < *k.Total:
		enough = 2
	}
	switch {
	case k.Quiet >= enough:
		return true, nil
	case k.Pass >= mostPasses:
		s.Progress.Unclean = append(s.Progress.Unclean, l.kind)
		return true, nil
	}
	*k = walk{Pass: k.Pass + 1, Fixed: k.Fixed, Moves: k.Moves, Total: k.Total, Quiet: k.Quiet}
	return false, nil
}

// tally counts the distinct rows a pass has seen, those that no pass before it had, and those of all passes.
type tally struct{ pass, fresh, union int }

func (w *Sweeper) tally(ctx context.Context, sweep int64, l listing, pass int) (t tally, err error) {
	const seen = ` FROM sync_pages p CROSS JOIN LATERAL unnest(p.keys) AS k (key)
		WHERE p.sweep = $1 AND p.kind = $2 AND coalesce(p.filter, '') = $3`
	if pass == 1 { // as a rule, and simpler to count
		if err = w.pool.QueryRow(ctx, `SELECT count(DISTINCT key)`+seen, sweep, l.kind, l.filter).Scan(&t.pass); err != nil {
			return t, fmt.Errorf("tally %s: %w", l.kind, err)
		}
		return tally{pass: t.pass, fresh: t.pass, union: t.pass}, nil
	}
	err = w.pool.QueryRow(ctx, `
		WITH seen AS (
			SELECT key, bool_or(p.pass = $4) AS now, bool_or(p.pass < $4) AS before`+seen+`
			GROUP BY key
		)
		SELECT count(*) FILTER (WHERE now), count(*) FILTER (WHERE now AND NOT before), count(*) FROM seen`,
		sweep, l.kind, l.filter, pass).Scan(&t.pass, &t.fresh, &t.union)
	if err != nil {
		return t, fmt.Errorf("tally pass %d over %s: %w", pass, l.kind, err)
	}
	return t, nil
}

// news reports whether the page just applied shows an object that no earlier page of the pass did.
func (w *Sweeper) news(ctx context.Context, tx pgx.Tx, sweep int64, l listing, pass int, number int64, ids []string) (news bool, err error) {
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM unnest($6::text[]) AS k (id)
			WHERE NOT EXISTS (
				SELECT FROM sync_pages p
				WHERE p.sweep = $1 AND p.kind = $2 AND coalesce(p.filter, '') = $3 AND p.pass = $4 AND p.observation <> $5
				  AND hashtextextended(k.id, 0) = ANY (p.keys)))`,
		sweep, l.kind, l.filter, pass, number, ids).Scan(&news)
	if err != nil {
		return false, fmt.Errorf("look for news on a page: %w", err)
	}
	return news, nil
}
