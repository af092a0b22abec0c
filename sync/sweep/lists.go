package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// statuses are the documented statuses of dossiers. The unfiltered list may leave some out (archived ones, perhaps), so
// that each one it did not show is asked for by name.
var statuses = []string{
	leadgridapi.StatusActive, leadgridapi.StatusWon, leadgridapi.StatusLost, leadgridapi.StatusArchived,
}

// pools are the documented pools of contacts: a filter only, no field.
var pools = []string{"in_pool", "expired"}

// samples is how many objects are read both ways to see whether list rows are thinner than GETs.
const samples = 3

func (w *Sweeper) walkFlows(ctx context.Context, s *Sweep) (bool, error) {
	return w.step(ctx, s, listing{
		kind: mappings.Flows, endpoint: mirror.ListFlows,
		fetch: func(ctx context.Context, at window) (mirror.Observation, page, error) {
			return fetch(w.observer.ListFlows(ctx, leadgridapi.FlowFilter{}, at.request()))
		},
	})
}

func (w *Sweeper) walkDossiers(ctx context.Context, s *Sweep) (bool, error) {
	l := w.dossiers("")
	if s.Progress.Walk == nil {
		if err := w.compare(ctx, s, l, w.observer.Dossier); err != nil || s.Ended() {
			return false, err
		}
	}
	return w.step(ctx, s, l)
}

func (w *Sweeper) walkStatus(status string) func(ctx context.Context, s *Sweep) (bool, error) {
	return func(ctx context.Context, s *Sweep) (bool, error) {
		if s.Progress.Walk == nil && slices.Contains(s.Progress.Statuses, status) {
			return true, nil
		}
		return w.step(ctx, s, w.dossiers(status))
	}
}

func (w *Sweeper) dossiers(status string) listing {
	l := listing{
		kind: mappings.Dossiers, endpoint: mirror.ListDossiers,
		fetch: func(ctx context.Context, at window) (mirror.Observation, page, error) {
			return fetch(w.observer.ListDossiers(ctx, leadgridapi.DossierFilter{Status: status}, at.request()))
		},
	}
	if status != "" {
		l.filter = "status=" + status
		return l
	}
	l.seen = func(s *Sweep, objects []json.RawMessage) {
		for _, object := range objects {
			if status := field(object, "status"); status != "" && !slices.Contains(s.Progress.Statuses, status) {
				s.Progress.Statuses = append(s.Progress.Statuses, status)
			}
		}
	}
	return l
}

func (w *Sweeper) walkContacts(ctx context.Context, s *Sweep) (bool, error) {
	if err := w.compareContacts(ctx, s); err != nil || s.Ended() {
		return false, err
	}
	return w.step(ctx, s, w.contacts(""))
}

// walkPoolFirst walks a filtered list ahead of the unfiltered one, so that a new contact is written once, with its pool. Where
// rows of lists are thin a new one has to be read by itself, later than the list, and the list's word on its pool is too old then.
func (w *Sweeper) walkPoolFirst(pool string) func(ctx context.Context, s *Sweep) (bool, error) {
	return func(ctx context.Context, s *Sweep) (bool, error) {
		if err := w.compareContacts(ctx, s); err != nil || s.Ended() {
			return false, err
		}
		if slices.Contains(s.Progress.Thin, mappings.Contacts) {
			return true, nil
		}
		over, err := w.step(ctx, s, w.contacts(pool))
		if over {
			s.Progress.Pooled = append(s.Progress.Pooled, pool)
		}
		return over, err
	}
}

func (w *Sweeper) walkPool(pool string) func(ctx context.Context, s *Sweep) (bool, error) {
	return func(ctx context.Context, s *Sweep) (bool, error) {
		if slices.Contains(s.Progress.Pooled, pool) {
			return true, nil
		}
		return w.step(ctx, s, w.contacts(pool))
	}
}

// compareContacts compares, before the first list of contacts is walked.
func (w *Sweeper) compareContacts(ctx context.Context, s *Sweep) error {
	if _, begun := s.Progress.Starts[mappings.Contacts]; begun || slices.Contains(s.Progress.Thin, mappings.Contacts) {
		return nil
	}
	return w.compare(ctx, s, w.contacts(""), w.observer.Contact)
}

func (w *Sweeper) contacts(pool string) listing {
	l := listing{kind: mappings.Contacts, endpoint: mirror.ListContacts}
	if pool != "" {
		l.endpoint, l.filter = mirror.ListContactsByPool, "pool="+pool
	}
	l.fetch = func(ctx context.Context, at window) (mirror.Observation, page, error) {
		observation, page, err := fetch(w.observer.ListContacts(ctx, leadgridapi.ContactFilter{Pool: pool}, at.request()))
		if pool != "" {
			for i, object := range page.objects {
				page.objects[i] = mappings.With(object, "pool", pool)
			}
		}
		return observation, page, err
	}
	return l
}

// clearPool takes the pool from contacts that the list shows but neither filtered list does any more.
func (w *Sweeper) clearPool(ctx context.Context, s *Sweep) (bool, error) {
	if slices.Contains(s.Progress.Unclean, mappings.Contacts) {
		return true, nil
	}
	ids, err := w.poolless(ctx, s.ID)
	if err != nil {
		return false, err
	}
	if len(ids) == 0 {
		return true, nil
	}
	objects := make([]json.RawMessage, len(ids))
	for i, id := range ids {
		object, err := json.Marshal(map[string]any{"id": id, "pool": nil})
		if err != nil {
			return false, err
		}
		objects[i] = object
	}
	at, err := w.mirror.Begin(ctx)
	if err != nil {
		return false, err
	}
	applied, err := w.observer.Apply(ctx, mirror.Read{
		Observation: at, Kind: mappings.Contacts, Endpoint: mirror.ListContactsByPool, Objects: objects, Proven: true,
	}, false, w.saving(ctx, s))
	return len(ids) < 1000 && applied.Stale == 0, err // a GET that overtook this has told nothing of the pool
}

// poolless finds contacts that have a pool and that only the unfiltered list has shown in this sweep.
func (w *Sweeper) poolless(ctx context.Context, sweep int64) (ids []string, err error) {
	err = w.mirror.InTx(ctx, func(tx pgx.Tx) error {
		if err := mirror.WithoutNestedLoops(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
		WITH seen AS NOT MATERIALIZED (
			SELECT key, p.filter IS NOT NULL AS pooled
			FROM sync_pages p CROSS JOIN LATERAL unnest(p.keys) AS k (key)
			WHERE p.sweep = $1 AND p.kind = 'contacts'
		), unpooled AS MATERIALIZED ( -- none, as a rule: then the other list need not be looked into
			SELECT id FROM contacts c
			WHERE pool IS NOT NULL AND _deleted_at IS NULL
			  AND NOT EXISTS (SELECT FROM seen WHERE key = hashtextextended(c.id, 0) AND pooled)
		)
		SELECT id FROM unpooled WHERE EXISTS (SELECT FROM seen WHERE key = hashtextextended(id, 0) AND NOT pooled)
		LIMIT 1000`, sweep)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for contacts in no pool: %w", err)
	}
	return ids, nil
}

// compare reads the head of a list and a few of its objects one by one, to learn whether list rows hide fields.
func (w *Sweeper) compare(
	ctx context.Context, s *Sweep, l listing, get func(context.Context, string, ...observe.Step) (observe.Result, error),
) error {
	_, head, err := l.fetch(ctx, windowAt(0))
	s.Requests++
	if err != nil {
		return err
	}
	if len(head.objects) == 0 {
		return nil
	}
	if strange, err := w.strange(ctx, s, l.kind, head.objects); err != nil || strange {
		return err
	}
	listed := make(map[string]mappings.Object)
	for _, object := range sample(head.objects) {
		id := field(object, "id")
		if id == "" {
			continue
		}
		s.Requests++
		result, err := get(ctx, id)
		if err != nil {
			return err
		}
		s.RowsChanged += int64(result.Changed)
		var told mappings.Object
		if err := json.Unmarshal(object, &told); err == nil && !result.NotFound {
			listed[id] = told
		}
	}
	thin, err := w.mirror.Thin(ctx, l.kind, head.objects, listed)
	if err != nil {
		return err
	}
	if thin && !slices.Contains(s.Progress.Thin, l.kind) {
		s.Progress.Thin = append(s.Progress.Thin, l.kind)
	}
	return nil
}

// sample picks objects of different types first.
func sample(objects []json.RawMessage) []json.RawMessage {
	var picked []json.RawMessage
	types := make(map[string]bool)
	for _, object := range objects {
		if kind := field(object, "type"); !types[kind] {
			types[kind] = true
			picked = append(picked, object)
		}
	}
	for i := len(objects) - 1; i >= 0 && len(picked) < min(samples, len(objects)); i-- {
		if !slices.ContainsFunc(picked, func(p json.RawMessage) bool { return bytes.Equal(p, objects[i]) }) {
			picked = append(picked, objects[i])
		}
	}
	return picked[:min(samples, len(picked))]
}

func (w window) request() leadgridapi.PageRequest {
	return leadgridapi.PageRequest{Page: w.Page, PerPage: w.PerPage}
}

func fetch(listed observe.Listed, err error) (mirror.Observation, page, error) {
	return listed.At, pageOf(listed.Objects, listed.Meta), err
}

// field gives a field of an object as text, empty where it has none.
func field(object json.RawMessage, name string) string {
	if value := mappings.Text.Convert(member(object, name)); value != nil {
		return *value
	}
	return ""
}

// member gives a field's value, nil where the object has none.
func member(object json.RawMessage, name string) (value json.RawMessage) {
	fields, _ := leadgridapi.Members(object)
	for key, text := range fields {
		if string(key) == name {
			value = text // the last one counts
		}
	}
	return value
}
