// Package verify reads LeadGrid again and compares the mirror with it, object by object and field by field. It only reads, and
// shares no code with what writes the mirror, so that it cannot share its mistakes. Start reading at Run.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// ErrOtherOrganization means that the key reads another organization than the one mirrored, so that there is nothing to compare.
var ErrOtherOrganization = errors.New("the API key reads another organization than the one mirrored here")

// Options say how to look.
type Options struct {
	// Sample, if not 0, limits the comparison of links, notes and fields that lists hide, which cost a request per dossier
	// or contact, to that many of them, picked at random. Lists are always read whole.
	Sample int
	// Looks is how often a difference must be found again before it is reported; 0 means 3. What people change during the
	// comparison differs at one look and is equal at the next.
	Looks int
	// Pause is the time between two looks; 0 means 2 s.
	Pause time.Duration
	// Mapping is the customer's mapping, nil for the default. What it leaves out does not count as missing.
	Mapping *mappings.Mapping
}

// The problems that a Finding can report.
const (
	Missing   = "missing"   // LeadGrid has it, the mirror does not
	Extra     = "extra"     // the mirror has it, LeadGrid does not
	Different = "different" // both have it, and it is not the same
)

// Finding is a row that differs from LeadGrid. It holds ids and names of fields, never a value.
type Finding struct {
	Table   string   `json:"table"`
	ID      string   `json:"id"` // dossier_id|contact_id of a link
	Problem string   `json:"problem"`
	Fields  []string `json:"fields,omitempty"` // that differ; _raw.x is a field x that has no column
}

// Counts count what was compared in one table.
type Counts struct {
	Compared int `json:"compared"` // rows that both sides have, the erased included
	Erased   int `json:"erased"`   // rows whose fields were erased here, so that only their ids were compared
}

// Report is the result of a comparison.
type Report struct {
	Findings []Finding         `json:"findings"`
	Tables   map[string]Counts `json:"tables"`
	Requests int64             `json:"requests"`
	// Sampled says that links, notes and details were compared for some dossiers and contacts only.
	Sampled bool `json:"sampled"`
	// EventsWaiting counts webhook events that are not processed yet: they may explain differences.
	EventsWaiting int64 `json:"events_waiting"`
}

const (
	defaultLooks = 3
	defaultPause = 2 * time.Second
	// readers is how many objects are read side by side.
	readers = 4
	// mostSuspects bounds how much is looked at again: more differences than that do not come from people at work.
	mostSuspects = 500
)

// look is a part of LeadGrid that can be read by itself: the list of flows (no id), the stages of a flow, a dossier, a
// contact, the links or notes of a dossier, or, with no table, the contacts of each pool.
type look struct {
	table *table
	id    string
}

type verifier struct {
	api      *leadgridapi.Client
	pool     *pgxpool.Pool
	options  Options
	columns  map[*table]columns
	requests atomic.Int64

	mu     sync.Mutex
	shown  map[*table]map[string]bool // the fields LeadGrid has shown
	told   map[*table]map[string]bool // the ids LeadGrid has shown
	erased map[*table]map[string]bool
	shared int // how many ids both sides know
}

// Run compares the mirror in pool, whose search_path must be the mirror's schema, with what api reads. The client's limiter
// decides when requests may be sent.
func Run(ctx context.Context, pool *pgxpool.Pool, api *leadgridapi.Client, options Options) (*Report, error) {
	options.Looks = cmp.Or(options.Looks, defaultLooks)
	options.Pause = cmp.Or(options.Pause, defaultPause)
	if options.Mapping == nil {
		options.Mapping = mappings.Default()
	}
	v := &verifier{
		api: api, pool: pool, options: options,
		shown: map[*table]map[string]bool{}, told: map[*table]map[string]bool{}, erased: map[*table]map[string]bool{},
	}
	for _, t := range tables {
		v.shown[t], v.told[t], v.erased[t] = map[string]bool{}, map[string]bool{}, map[string]bool{}
	}
	if err := v.loadColumns(ctx); err != nil {
		return nil, err
	}
	findings, err := v.compareAll(ctx)
	if err != nil {
		return nil, err
	}
	return v.report(ctx, findings)
}

func (v *verifier) report(ctx context.Context, findings []Finding) (*Report, error) {
	r := &Report{Findings: findings, Tables: make(map[string]Counts), Requests: v.requests.Load(), Sampled: v.options.Sample > 0}
	missing := make(map[string]int)
	for _, finding := range findings {
		if finding.Problem == Missing {
			missing[finding.Table]++
		}
	}
	for _, t := range tables {
		r.Tables[t.name] = Counts{Compared: len(v.told[t]) - missing[t.name], Erased: len(v.erased[t])}
	}
	err := v.pool.QueryRow(ctx, `SELECT coalesce(sum(events), 0) FROM sync_flushes WHERE done_at IS NULL`).Scan(&r.EventsWaiting)
	if err != nil {
		return nil, fmt.Errorf("count waiting events: %w", err)
	}
	return r, nil
}

// compareAll looks at everything once, and then repeatedly at what was different.
func (v *verifier) compareAll(ctx context.Context) ([]Finding, error) {
	findings, suspects, err := v.firstLook(ctx)
	if err != nil {
		return nil, err
	}
	for n := 0; n < v.options.Looks && len(suspects) > 0 && len(suspects) <= mostSuspects; n++ {
		if n > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(v.options.Pause):
			}
		}
		if findings, suspects, _, err = v.lookAt(ctx, suspects); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID), slices.Compare(a.Fields, b.Fields))
	})
	return slices.CompactFunc(findings, func(a, b Finding) bool {
		return a.Table == b.Table && a.ID == b.ID && slices.Equal(a.Fields, b.Fields)
	}), nil
}

// lookAt looks at several parts, some of them concurrently. It returns the findings, the parts they were found in, and the
// parts about which it cannot be sure yet.
func (v *verifier) lookAt(ctx context.Context, looks []look) (findings []Finding, suspects, doubtful []look, err error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, l := range looks {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			found, unsure, err := v.look(ctx, l)
			mu.Lock()
			defer mu.Unlock()
			findings = append(findings, found...)
			switch {
			case len(found) > 0:
				suspects = append(suspects, l)
			case unsure:
				doubtful = append(doubtful, l)
			}
			return err
		})
	}
	err = group.Wait()
	return findings, suspects, doubtful, err
}

// judge compares what LeadGrid showed with the mirror's rows for it. whole says that told is everything, so that any other row
// is extra.
func (v *verifier) judge(t *table, told []object, rows map[string]row, whole bool) (findings []Finding, unsure bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range told {
		for name := range told[i] {
			v.shown[t][name] = true
		}
		told[i] = v.mapped(t, told[i])
	}
	listed := make(map[string]bool)
	for _, one := range told {
		id := t.id(one)
		if id == "" || listed[id] {
			continue // without an id there is no row
		}
		listed[id], v.told[t][id] = true, true
		have, ok := rows[id]
		switch {
		case !ok:
			findings = append(findings, Finding{Table: t.name, ID: id, Problem: Missing})
			continue
		case have["_erased_at"] != nil:
			v.erased[t][id] = true
			continue
		}
		v.shared++
		fields, doubt := t.differing(v.columns[t], one, v.shown[t], have)
		fields = append(fields, v.differingOwn(t, one, have)...)
		unsure = unsure || doubt
		if len(fields) > 0 {
			findings = append(findings, Finding{Table: t.name, ID: id, Problem: Different, Fields: fields})
		}
	}
	if whole {
		for id := range rows {
			if !listed[id] {
				delete(v.told[t], id)
				findings = append(findings, Finding{Table: t.name, ID: id, Problem: Extra})
			}
		}
	}
	return findings, unsure
}
