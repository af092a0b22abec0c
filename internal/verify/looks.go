package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// statuses and pools are the filters' documented values. The unfiltered list may hide some.
var (
	statuses = []string{leadgridapi.StatusActive, leadgridapi.StatusWon, leadgridapi.StatusLost, leadgridapi.StatusArchived}
	pools    = []string{leadgridapi.PoolIn, leadgridapi.PoolExpired}
)

// samples is how many objects are read both ways to see whether a list hides fields.
const samples = 5

// firstLook reads everything. It returns its findings, and the parts to look at again.
func (v *verifier) firstLook(ctx context.Context) (findings []Finding, suspects []look, err error) {
	lookAt := func(looks []look) error {
		found, differing, doubtful, err := v.lookAt(ctx, looks)
		findings = append(findings, found...)
		suspects = append(append(suspects, differing...), doubtful...)
		return err
	}
	if err := lookAt([]look{{table: flows}}); err != nil {
		return nil, nil, err
	}
	var thin []look
	for _, t := range []*table{dossiers, contacts} {
		found, again, details, err := v.lookAtList(ctx, t)
		if err != nil {
			return nil, nil, err
		}
		findings, suspects, thin = append(findings, found...), append(suspects, again...), append(thin, details...)
	}
	if err := v.sameOrganization(ctx); err != nil {
		return nil, nil, err
	}
	if err := lookAt([]look{{}}); err != nil {
		return nil, nil, err
	}
	if err := lookAt(thin); err != nil {
		return nil, nil, err
	}
	for _, t := range []*table{stages, links, notes} {
		parents, err := v.parents(ctx, t)
		if err != nil {
			return nil, nil, err
		}
		if err := lookAt(parents); err != nil {
			return nil, nil, err
		}
	}
	return findings, suspects, nil
}

// lookAtList reads all lists of dossiers or contacts. Details are the objects that have to be read one by one because
// their list hides fields.
func (v *verifier) lookAtList(ctx context.Context, t *table) (findings []Finding, suspects, details []look, err error) {
	lists := []pager{v.listContacts("")}
	if t == dossiers {
		lists = []pager{v.listDossiers("")}
		for _, status := range statuses {
			lists = append(lists, v.listDossiers(status))
		}
	}
	head, thin := true, false
	for _, list := range lists {
		err := readList(ctx, t, list, func(objects []object) error {
			if head {
				if thin, err = v.hides(ctx, t, objects); err != nil {
					return err
				}
			}
			head = false
			found, again, err := v.judgePage(ctx, t, objects, thin)
			findings, suspects = append(findings, found...), append(suspects, again...)
			return err
		})
		if err != nil {
			return nil, nil, nil, err
		}
	}
	mirrored, err := v.ids(ctx, t)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, id := range mirrored {
		if !v.told[t][id] { // gone, or missed by the lists: a GET will show which
			findings = append(findings, Finding{Table: t.name, ID: id, Problem: Extra})
			suspects = append(suspects, look{t, id})
		}
	}
	if thin {
		for _, id := range v.sample(slices.Sorted(maps.Keys(v.told[t]))) {
			details = append(details, look{t, id})
		}
	}
	return findings, suspects, details, nil
}

// judgePage compares one page of a list.
func (v *verifier) judgePage(ctx context.Context, t *table, objects []object, thin bool) (findings []Finding, suspects []look, err error) {
	var ids []string
	for _, told := range objects {
		if id := t.id(told); id != "" {
			ids = append(ids, id)
		}
	}
	rows, err := v.rows(ctx, t, `id = ANY ($1)`, ids)
	if err != nil {
		return nil, nil, err
	}
	for _, told := range objects {
		found, unsure := v.judge(t, []object{told}, rows, false)
		findings = append(findings, found...)
		if len(found) > 0 || unsure && !thin {
			suspects = append(suspects, look{t, t.id(told)})
		}
	}
	return findings, suspects, nil
}

// hides reports whether the page's rows lack fields that a GET of the same objects shows.
func (v *verifier) hides(ctx context.Context, t *table, page []object) (bool, error) {
	keys := make(map[string]bool)
	for _, told := range page {
		for name := range told {
			keys[name] = true
		}
	}
	for _, i := range rand.Perm(len(page))[:min(samples, len(page))] {
		id := t.id(page[i])
		if id == "" {
			continue
		}
		whole, err := v.get(ctx, t, id)
		if err != nil {
			return false, err
		}
		for name, value := range whole {
			if _, here := page[i][name]; !keys[name] || !here && value != nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// parents lists the flows or dossiers whose children to compare: all that LeadGrid showed, and those that the mirror's live
// rows still name.
func (v *verifier) parents(ctx context.Context, t *table) (looks []look, err error) {
	of := v.told[dossiers]
	if t == stages {
		of = v.told[flows]
	}
	all := maps.Clone(of)
	result, err := v.pool.Query(ctx, `SELECT DISTINCT `+t.parent+` FROM `+t.name+` WHERE _deleted_at IS NULL AND `+t.parent+` IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("list the parents of %s: %w", t.name, err)
	}
	var parent string
	_, err = pgx.ForEachRow(result, []any{&parent}, func() error { all[parent] = true; return nil })
	if err != nil {
		return nil, fmt.Errorf("list the parents of %s: %w", t.name, err)
	}
	ids := slices.Sorted(maps.Keys(all))
	if t != stages {
		ids = v.sample(ids)
	}
	for _, id := range ids {
		looks = append(looks, look{t, id})
	}
	return looks, nil
}

// sample picks Options.Sample of the ids at random, or all if that is 0.
func (v *verifier) sample(ids []string) []string {
	if v.options.Sample == 0 || len(ids) <= v.options.Sample {
		return ids
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:v.options.Sample]
}

// sameOrganization fails if the key reads another organization's data: everything would be different.
func (v *verifier) sameOrganization(ctx context.Context) error {
	var mirrored int
	err := v.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM flows WHERE _deleted_at IS NULL) +
		(SELECT count(*) FROM dossiers WHERE _deleted_at IS NULL) + (SELECT count(*) FROM contacts WHERE _deleted_at IS NULL)`).Scan(&mirrored)
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	if told := len(v.told[flows]) + len(v.told[dossiers]) + len(v.told[contacts]); v.shared == 0 && mirrored > 0 && told > 0 {
		return ErrOtherOrganization
	}
	return nil
}

// look reads one part of LeadGrid, then the mirror's rows for it, and compares them.
func (v *verifier) look(ctx context.Context, l look) (findings []Finding, unsure bool, err error) {
	switch l.table {
	case nil:
		return v.lookAtPools(ctx)
	case dossiers, contacts:
		told, err := v.get(ctx, l.table, l.id)
		if err != nil {
			return nil, false, err
		}
		rows, err := v.rows(ctx, l.table, `id = $1`, l.id)
		if err != nil {
			return nil, false, err
		}
		objects := []object{told}
		if told == nil {
			objects = nil
		}
		findings, unsure = v.judge(l.table, objects, rows, true)
		return findings, unsure, nil
	}
	list, condition, args := v.listFlows(), `true`, []any(nil)
	if l.table != flows {
		list, condition, args = v.listChildren(l.table, l.id), l.table.parent+` = $1`, []any{l.id}
	}
	var told []object
	err = readList(ctx, l.table, list, func(objects []object) error {
		for _, one := range objects {
			if parent := l.table.parent; parent != "" && one != nil && one[parent] == nil {
				one[parent] = l.id // it came from that parent's path
			}
		}
		told = append(told, objects...)
		return nil
	})
	if err != nil && !errors.Is(err, leadgridapi.ErrNotFound) {
		return nil, false, err
	}
	rows, err := v.rows(ctx, l.table, condition, args...)
	if err != nil {
		return nil, false, err
	}
	findings, unsure = v.judge(l.table, told, rows, true)
	return findings, unsure, nil
}

// lookAtPools compares which contacts are in which pool; only filtered lists show that.
func (v *verifier) lookAtPools(ctx context.Context) (findings []Finding, unsure bool, err error) {
	if _, mirrored := v.columns[contacts]["pool"]; !mirrored {
		return nil, false, nil
	}
	told := make(map[string]string)
	for _, pool := range pools {
		err := readList(ctx, contacts, v.listContacts(pool), func(objects []object) error {
			for _, one := range objects {
				told[contacts.id(one)] = pool
			}
			return nil
		})
		if err != nil {
			return nil, false, err
		}
	}
	result, err := v.pool.Query(ctx, `SELECT id, coalesce(pool, '') FROM contacts c WHERE _deleted_at IS NULL AND to_jsonb(c)->>'_erased_at' IS NULL`)
	if err != nil {
		return nil, false, fmt.Errorf("read pools: %w", err)
	}
	var id, pool string
	_, err = pgx.ForEachRow(result, []any{&id, &pool}, func() error {
		v.mu.Lock() // others are looked at meanwhile
		known := v.told[contacts][id]
		v.mu.Unlock()
		if known && told[id] != pool {
			findings = append(findings, Finding{Table: contacts.name, ID: id, Problem: Different, Fields: []string{"pool"}})
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read pools: %w", err)
	}
	return findings, false, nil
}
