package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// lookForDossiers looks into creates of dossiers, which nothing but their fields tells apart. What it reads serves all of
// them. Candidates come from the events and the mirror, which is quick, and, once nothing could be under way any more, from
// the lists of all dossiers of the type: only their silence shows that nothing was made.
func (r *Runner) lookForDossiers(ctx context.Context, commands []*Command) {
	at, err := r.observer.Mirror().Begin(ctx)
	if err != nil {
		r.noneLooked(ctx, commands, err)
		return
	}
	shown := make(map[string]mappings.Object) // what is known of the candidates so far, nil for nothing
	recent, err := r.recentDossiers(ctx, commands)
	if err != nil {
		r.noneLooked(ctx, commands, err)
		return
	}
	maps.Copy(shown, recent)
	listed := make(map[string]error)
	for _, c := range commands {
		kind := textOf(c.fields(), "type")
		if _, done := listed[kind]; !done && (c.Looks == 1 || c.CertainAt == nil || !at.BeganAt.Before(*c.CertainAt)) {
			listed[kind] = r.listDossiers(ctx, kind, shown)
		}
	}
	wholes := make(map[string]json.RawMessage)
	for _, c := range commands {
		listErr, walked := listed[textOf(c.fields(), "type")]
		found := &evidence{LookedAt: at.BeganAt, Where: []string{"events", "mirror"}}
		if walked && listErr == nil {
			found.Where = append(found.Where, "list of dossiers")
		}
		if err := r.lookForDossier(ctx, c, shown, wholes, found); err != nil {
			r.notLooked(ctx, c, err)
			continue
		}
		if listErr != nil && found.one() == nil { // its silence would say nothing
			if errors.Is(listErr, errTooMany) {
				r.ask(ctx, c, listErr.Error(), found, nil)
			} else {
				r.notLooked(ctx, c, listErr)
			}
			continue
		}
		r.settle(ctx, c, found)
	}
}

func (r *Runner) noneLooked(ctx context.Context, commands []*Command, err error) {
	for _, c := range commands {
		r.notLooked(ctx, c, err)
	}
}

// lookForDossier reads, whole, each candidate that may be what the command made.
func (r *Runner) lookForDossier(
	ctx context.Context, c *Command, shown map[string]mappings.Object, wholes map[string]json.RawMessage, found *evidence,
) error {
	sent := c.fields()
	var candidates []json.RawMessage
	for _, id := range slices.Sorted(maps.Keys(shown)) {
		if object := shown[id]; object == nil || compare(CreateDossier, sent, object) != different {
			candidates = append(candidates, json.RawMessage(`{"id":`+string(quoted(id))+`}`))
		}
	}
	candidates, err := r.unclaimed(ctx, c, mappings.Dossiers, candidates)
	if err != nil {
		return err
	}
	for _, one := range candidates {
		id := textOf(objectOf(one), "id")
		if _, read := wholes[id]; !read {
			result, err := r.observer.Dossier(ctx, id)
			if err != nil {
				return err
			}
			wholes[id] = nil
			if !result.NotFound {
				wholes[id] = result.Objects[0]
				shown[id] = objectOf(wholes[id])
			}
		}
		if wholes[id] != nil {
			found.add(c, wholes[id])
		}
	}
	return nil
}

// recentDossiers gives the dossiers that events have named, or the mirror has seen change, since the first of the commands
// was sent, with what the mirror knows of each.
func (r *Runner) recentDossiers(ctx context.Context, commands []*Command) (map[string]mappings.Object, error) {
	first := *slices.MinFunc(commands, func(a, b *Command) int { return int(*a.Sent - *b.Sent) }).Sent
	rows, err := r.store.pool.Query(ctx, `
		SELECT id, _raw FROM dossiers WHERE _observed > $1 AND _deleted_at IS NULL
		UNION ALL
		SELECT DISTINCT e.dossier_id, NULL::jsonb FROM webhook_events e
		WHERE e.flush > $1 AND e.dossier_id IS NOT NULL AND e.type LIKE 'dossier.%' AND e.odd IS NULL
		  AND NOT EXISTS (SELECT FROM dossiers d WHERE d.id = e.dossier_id)`, first)
	if err != nil {
		return nil, fmt.Errorf("look for recent dossiers: %w", err)
	}
	recent := make(map[string]mappings.Object)
	var id string
	var raw json.RawMessage
	_, err = pgx.ForEachRow(rows, []any{&id, &raw}, func() error {
		object := objectOf(raw)
		if object["name"] == nil { // a mapping may leave it out
			object = nil
		}
		recent[id] = object
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for recent dossiers: %w", err)
	}
	return recent, nil
}

// listDossiers adds what the list of all dossiers of a type shows. Rows that the list moved about while it was read are
// found by reading it again until two reads agree on how many there are.
func (r *Runner) listDossiers(ctx context.Context, kind string, shown map[string]mappings.Object) error {
	seen := -1
	for range mostReads {
		listed := make(map[string]mappings.Object)
		total := -1
		err := pages(func(page leadgridapi.PageRequest) ([]json.RawMessage, leadgridapi.Meta, error) {
			answer, err := r.observer.ListDossiers(ctx, leadgridapi.DossierFilter{Type: kind}, page)
			for _, object := range answer.Objects {
				fields := objectOf(object)
				listed[textOf(fields, "id")] = fields
			}
			if answer.Meta.Total != nil {
				total = *answer.Meta.Total
			}
			return answer.Objects, answer.Meta, err
		})
		if err != nil {
			return err
		}
		for id, object := range listed {
			if _, ok := shown[id]; !ok {
				shown[id] = object
			}
		}
		if len(listed) == total || len(listed) == seen {
			return nil
		}
		seen = len(listed)
	}
	return errMoving
}

// mostReads bounds how often a list is read again because it moved.
const mostReads = 3

// errMoving says that a list never held still.
var errMoving = errors.New("the list of dossiers kept changing while it was read")
