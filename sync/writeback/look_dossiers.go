package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// lookIntoDossiers looks into creates of dossiers, which can only be recognized by their fields. The commands share what it reads.
// Candidates first come from events and the mirror, which is quick. Once no request can be under way any more, they come from
// the list of all dossiers of the type: only if that shows none is it certain that nothing was made.
func (r *Runner) lookIntoDossiers(ctx context.Context, commands []*Command) {
	at, err := r.observer.Mirror().Begin(ctx)
	var shown map[string]mappings.Object // the candidates as far as they are known, nil if not at all
	if err == nil {
		shown, err = r.recentDossiers(ctx, commands)
	}
	if err != nil {
		for _, c := range commands {
			r.lookLater(ctx, c, err)
		}
		return
	}
	listed := make(map[string]error) // by type of dossier
	for _, c := range commands {
		kind := c.text("type")
		if _, done := listed[kind]; !done && (c.Looks == 1 || c.certain(at.BeganAt)) {
			listed[kind] = r.listDossiers(ctx, kind, shown)
		}
	}
	wholes := make(map[string]json.RawMessage)
	for _, c := range commands {
		listErr, walked := listed[c.text("type")]
		found := &evidence{LookedAt: at.BeganAt, Where: []string{"events", "mirror"}}
		if walked && listErr == nil {
			found.Where = append(found.Where, "list of dossiers")
		}
		err := r.lookForDossier(ctx, c, shown, wholes, found)
		if err == nil && found.one() == nil && c.certain(at.BeganAt) {
			err = listErr // without the list, finding nothing would prove nothing
		}
		switch {
		case errors.Is(err, errTooMany):
			r.ask(ctx, c, err.Error(), found, nil)
		case err != nil:
			r.lookLater(ctx, c, err)
		default:
			r.conclude(ctx, c, found)
		}
	}
}

// lookForDossier reads each candidate that may be the command's result with a GET.
func (r *Runner) lookForDossier(
	ctx context.Context, c *Command, shown map[string]mappings.Object, wholes map[string]json.RawMessage, found *evidence,
) error {
	sent := c.fields()
	var ids []string
	for id, object := range shown {
		if object == nil || c.marks(object) || compare(CreateDossier, sent, object) != different {
			ids = append(ids, id)
		}
	}
	ids, err := r.unclaimed(ctx, c, mappings.Dossiers, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
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

// recentDossiers returns the dossiers that events have named since the first of the commands was sent, and those that the mirror
// has seen change since and that have the name or e-mail of one of them, as the mirror knows them.
func (r *Runner) recentDossiers(ctx context.Context, commands []*Command) (map[string]mappings.Object, error) {
	first := slices.MinFunc(commands, func(a, b *Command) int { return a.SentAt.Compare(*b.SentAt) })
	var names, emails []string
	for _, c := range commands {
		names, emails = append(names, c.text("name")), append(emails, c.text("email"))
	}
	rows, err := r.store.pool.Query(ctx, `
		SELECT d.id, d._raw FROM dossiers d
		WHERE d._changed_at >= $1 AND d._deleted_at IS NULL
		  AND (d.name IS NULL OR lower(d.name) IN (SELECT lower(n) FROM unnest($2::text[]) n)
		       OR lower(d.email) IN (SELECT lower(e) FROM unnest($3::text[]) e WHERE e <> ''))
		UNION ALL
		SELECT DISTINCT e.dossier_id, NULL::jsonb FROM webhook_events e
		WHERE e.flush > $4 AND e.dossier_id IS NOT NULL AND e.type LIKE 'dossier.%' AND e.odd IS NULL
		  AND NOT EXISTS (SELECT FROM dossiers d WHERE d.id = e.dossier_id)`, first.SentAt, names, emails, first.Sent)
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

// listDossiers adds all dossiers of a type to shown. If there are too many, it adds those on the first stages, where LeadGrid
// puts a new dossier.
func (r *Runner) listDossiers(ctx context.Context, kind string, shown map[string]mappings.Object) error {
	err := r.listAll(ctx, leadgridapi.DossierFilter{Type: kind}, shown)
	if !errors.Is(err, errTooMany) {
		return err
	}
	rows, err := r.store.pool.Query(ctx, `
		SELECT DISTINCT ON (f.id) s.id FROM flows f JOIN stages s ON s.flow_id = f.id
		WHERE f.type = $1 AND f._deleted_at IS NULL AND s._deleted_at IS NULL ORDER BY f.id, s.position`, kind)
	if err != nil {
		return fmt.Errorf("look for first stages: %w", err)
	}
	stages, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for first stages: %w", err)
	}
	if len(stages) == 0 {
		return errTooMany
	}
	for _, stage := range stages {
		if err := r.listAll(ctx, leadgridapi.DossierFilter{Type: kind, StageID: stage}, shown); err != nil {
			return err
		}
	}
	return nil
}

// listAll adds a list's rows to shown. Rows may move while it is read, so it reads again until it has seen as many as LeadGrid
// counts, or two reads saw the same number.
func (r *Runner) listAll(ctx context.Context, filter leadgridapi.DossierFilter, shown map[string]mappings.Object) error {
	seen := -1
	for range mostReads {
		listed := make(map[string]mappings.Object)
		total := -1
		err := pages(func(page leadgridapi.PageRequest) ([]json.RawMessage, leadgridapi.Meta, error) {
			answer, err := r.observer.ListDossiers(ctx, filter, page)
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

// errMoving means that a list never held still.
var errMoving = errors.New("the list of dossiers kept changing while it was read")
