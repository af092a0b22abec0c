package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

const (
	lookers = 4
	// givenUp is how much longer to look for the result of a command that LeadGrid said was done.
	givenUp = 10 * time.Minute
)

// look looks into creates of unknown outcome.
func (r *Runner) look(ctx context.Context, commands []*Command) {
	var dossiers []*Command
	var group errgroup.Group
	group.SetLimit(lookers)
	for _, c := range commands {
		if c.Operation == CreateDossier {
			dossiers = append(dossiers, c)
			continue
		}
		group.Go(func() error { r.lookInto(ctx, c); return nil })
	}
	if len(dossiers) > 0 {
		r.lookIntoDossiers(ctx, dossiers)
	}
	_ = group.Wait() // nobody returns an error
}

// lookInto looks for what one command made, and acts on what it finds.
func (r *Runner) lookInto(ctx context.Context, c *Command) {
	at, err := r.observer.Mirror().Begin(ctx)
	found := &evidence{LookedAt: at.BeganAt}
	if err == nil {
		err = r.lookFor(ctx, c, found)
	}
	if err != nil {
		r.lookLater(ctx, c, err)
		return
	}
	r.conclude(ctx, c, found)
}

// lookFor adds to found what LeadGrid shows that the command may have made.
func (r *Runner) lookFor(ctx context.Context, c *Command, found *evidence) error {
	switch c.Operation {
	case CreateContact:
		return r.lookForContact(ctx, c, found)
	case AddNote:
		return r.lookForNote(ctx, c, found)
	}
	shown, err := r.recentDossiers(ctx, []*Command{c})
	if err == nil {
		err = r.listDossiers(ctx, c.text("type"), shown)
	}
	if err != nil {
		return err
	}
	return r.lookForDossier(ctx, c, shown, map[string]json.RawMessage{}, found)
}

// lookLater puts off a command that could not be looked into.
func (r *Runner) lookLater(ctx context.Context, c *Command, err error) {
	if ctx.Err() != nil {
		return // it is claimed again when its lease runs out
	}
	o, wait := judge(err)
	if o != notYet || wait == 0 {
		wait = r.backoff(c.Looks)
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "command not looked into", slog.String("command", c.ID), slog.Any("error", err))
	r.keep(ctx, c, r.store.lookAgain(c, wait, nil))
}

// conclude decides what becomes of a command, by the evidence of a look.
func (r *Runner) conclude(ctx context.Context, c *Command, found *evidence) {
	if one := found.one(); one != nil {
		r.accept(ctx, c, one, found)
		return
	}
	switch {
	case !c.certain(found.LookedAt):
		wait := r.backoff(c.Looks)
		if left := c.CertainAt.Sub(found.LookedAt); left < wait {
			wait = left
		}
		r.keep(ctx, c, r.store.lookAgain(c, wait, found))
	case len(found.Candidates) > 0:
		r.ask(ctx, c, fmt.Sprintf("LeadGrid shows %d that may be what this command made", len(found.Candidates)), found, nil)
	case c.Happened && found.LookedAt.Sub(*c.CertainAt) < givenUp:
		r.keep(ctx, c, r.store.lookAgain(c, r.backoff(c.Looks), found))
	case c.Happened:
		r.ask(ctx, c, "LeadGrid said that it was done, but does not show what it made", found, nil)
	case c.tired(found.LookedAt):
		r.ask(ctx, c, fmt.Sprintf("sent %d times, of which LeadGrid shows nothing", c.Attempts), found, nil)
	default:
		r.log.LogAttrs(ctx, slog.LevelInfo, "command not carried out, sent again", slog.String("command", c.ID), slog.Int("attempts", c.Attempts))
		r.keep(ctx, c, r.store.postpone(c, r.backoff(c.Attempts-1), "LeadGrid shows that it was not carried out", true))
	}
}

// certain reports whether a look that began at a time and finds nothing proves that nothing was made.
func (c *Command) certain(at time.Time) bool { return c.CertainAt == nil || !at.Before(*c.CertainAt) }

// accept ends a command whose result LeadGrid shows.
func (r *Runner) accept(ctx context.Context, c *Command, one *candidate, found *evidence) {
	m := made{id: one.ID, object: one.object, evidence: found, confirms: 1, confirm: r.caughtUp()}
	if c.Operation == CreateDossier && c.HasCV && empty(objectOf(one.object)["cv_url"]) {
		r.keep(ctx, c, r.store.inTx(func(ctx context.Context, tx pgx.Tx) error { return r.store.uploadNext(ctx, tx, c, m) }))
		return
	}
	r.finish(ctx, c, m)
}

// lookForContact searches for the contact, by its e-mail if it has one.
func (r *Runner) lookForContact(ctx context.Context, c *Command, found *evidence) error {
	search := c.text("email")
	if search == "" {
		search = c.text("full_name")
	}
	found.Where = []string{"contacts by search"}
	listed := make(map[string]mappings.Object)
	err := pages(func(page leadgridapi.PageRequest) ([]json.RawMessage, leadgridapi.Meta, error) {
		answer, err := r.observer.ListContacts(ctx, leadgridapi.ContactFilter{Search: search}, page)
		for _, object := range answer.Objects {
			fields := objectOf(object)
			listed[textOf(fields, "id")] = fields
		}
		return answer.Objects, answer.Meta, err
	})
	if err != nil {
		return err
	}
	sent := c.fields()
	maps.DeleteFunc(listed, func(_ string, fields mappings.Object) bool { return compare(c.Operation, sent, fields) == different })
	ids, err := r.unclaimed(ctx, c, mappings.Contacts, slices.Sorted(maps.Keys(listed)))
	if err != nil {
		return err
	}
	for _, id := range ids {
		result, err := r.observer.Contact(ctx, id)
		if err != nil {
			return err
		}
		if !result.NotFound {
			found.add(c, result.Objects[0])
		}
	}
	if len(found.Candidates) > 0 {
		return nil
	}
	return r.deletedSince(ctx, c, found)
}

// deletedSince looks among the contacts that are gone from LeadGrid since the command was sent: what it made may have been
// deleted before anybody looked. Of an erased contact, only the times are left to compare.
func (r *Runner) deletedSince(ctx context.Context, c *Command, found *evidence) error {
	found.Where = append(found.Where, "contacts deleted since")
	rows, err := r.store.pool.Query(ctx, `
		SELECT t.id, coalesce(t.created_at::text, '') FROM contacts t
		WHERE t._deleted_at >= $1 AND coalesce(t.created_at, $1) >= $1 - $2::interval AND (t.full_name = $3 OR t._erased_at >= $1)
		  AND NOT EXISTS (SELECT FROM commands c WHERE c.leadgrid_id = t.id AND c.operation = $4)`,
		c.SentAt, skew, c.text("full_name"), c.Operation)
	if err != nil {
		return fmt.Errorf("look among deleted contacts: %w", err)
	}
	var id, created string
	_, err = pgx.ForEachRow(rows, []any{&id, &created}, func() error {
		found.Candidates = append(found.Candidates, candidate{ID: id, CreatedAt: created, Likeness: "deleted since it was sent"})
		return nil
	})
	if err != nil {
		return fmt.Errorf("look among deleted contacts: %w", err)
	}
	return nil
}

// lookForNote reads the notes of the dossier.
func (r *Runner) lookForNote(ctx context.Context, c *Command, found *evidence) error {
	found.Where = []string{"notes of the dossier"}
	result, err := r.observer.Notes(ctx, c.dossier())
	if err != nil || result.NotFound {
		return err
	}
	shown := make(map[string]json.RawMessage)
	for _, object := range result.Objects {
		shown[textOf(objectOf(object), "id")] = object
	}
	ids, err := r.unclaimed(ctx, c, mappings.Notes, slices.Sorted(maps.Keys(shown)))
	if err != nil {
		return err
	}
	for _, id := range ids {
		found.add(c, shown[id])
	}
	return nil
}

// unclaimed returns those of the ids that no other command has made and that the mirror did not know before this one was first
// sent.
func (r *Runner) unclaimed(ctx context.Context, c *Command, kind mappings.Kind, ids []string) ([]string, error) {
	rows, err := r.store.pool.Query(ctx, `
		SELECT k.id FROM unnest($1::text[]) k (id)
		WHERE k.id <> ''
		  AND NOT EXISTS (SELECT FROM commands c WHERE c.leadgrid_id = k.id AND c.operation = $2 AND c.id <> $3::uuid)
		  AND NOT EXISTS (SELECT FROM `+pgx.Identifier{string(kind)}.Sanitize()+` t WHERE t.id = k.id AND t._changed_at < $4)
		ORDER BY k.id`, ids, c.Operation, c.ID, c.SentAt)
	if err != nil {
		return nil, fmt.Errorf("look for what other commands made: %w", err)
	}
	ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for what other commands made: %w", err)
	}
	return ids, nil
}

// pages reads page after page until one is certainly the last.
func pages(page func(leadgridapi.PageRequest) ([]json.RawMessage, leadgridapi.Meta, error)) error {
	seen := make(map[string]bool)
	for n := 1; n <= mostPages; n++ {
		objects, meta, err := page(leadgridapi.PageRequest{Page: n, PerPage: leadgridapi.MaxPerPage})
		if n > 1 && errors.Is(err, leadgridapi.ErrNotFound) {
			return nil // past the end
		}
		if err != nil {
			return err
		}
		fresh := 0
		for _, object := range objects {
			if id := textOf(objectOf(object), "id"); !seen[id] {
				seen[id] = true
				fresh++
			}
		}
		if fresh == 0 || meta.Ends(len(objects), len(seen)) {
			return nil
		}
	}
	return errTooMany
}

// mostPages bounds how many pages of a list a look reads.
const mostPages = 50

// errTooMany means that a list has more than mostPages pages.
var errTooMany = fmt.Errorf("there are more than %d pages to look through", mostPages)
