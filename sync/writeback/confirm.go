package writeback

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// confirmAll confirms several commands.
func (r *Runner) confirmAll(ctx context.Context, commands []*Command) {
	var group errgroup.Group
	group.SetLimit(lookers)
	for _, c := range commands {
		group.Go(func() error { r.confirm(ctx, c); return nil })
	}
	_ = group.Wait() // nobody returns an error
}

// confirm reads back what a command did, so that the mirror holds all of it and not only LeadGrid's answer. The last time, when
// no replica can lag any more, it also reports what LeadGrid did not do although it said so.
func (r *Runner) confirm(ctx context.Context, c *Command) {
	left := c.Confirms - 1
	object, err := r.readBack(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return // it is claimed again when its lease runs out
		}
		o, wait := judge(err)
		if o != notYet || wait == 0 {
			wait = 10 * r.options.Pause
		}
		r.log.LogAttrs(ctx, slog.LevelInfo, "command not confirmed", slog.String("command", c.ID), slog.Any("error", err))
		r.keep(ctx, c, r.store.confirmed(c, c.Confirms, wait, ""))
		return
	}
	amiss := ""
	if left == 0 {
		amiss = uncleared(c, object)
		if r.twins(ctx, c) {
			return
		}
	}
	r.keep(ctx, c, r.store.confirmed(c, left, r.caughtUp(), amiss))
}

// readBack reads everything that a command touched into the mirror, and returns the object that an update changed.
func (r *Runner) readBack(ctx context.Context, c *Command) (mappings.Object, error) {
	read := func(read func(context.Context, string, ...observe.Step) (observe.Result, error), id string) (mappings.Object, error) {
		result, err := read(ctx, id)
		if err != nil || len(result.Objects) == 0 {
			return nil, err
		}
		return objectOf(result.Objects[0]), nil
	}
	switch c.Operation {
	case DeleteContact:
		if object, err := read(r.observer.Contact, c.contact()); err != nil || object != nil {
			return object, err
		}
		return nil, r.sweepContacts(ctx, c.contact())
	case CreateContact, UpdateContact:
		return read(r.observer.Contact, c.contact())
	case LinkContact, UnlinkContact:
		if _, err := r.observer.Contact(ctx, c.contact()); err != nil { // which counts its dossiers
			return nil, err
		}
		return read(r.observer.Links, c.dossier())
	case AddNote:
		return read(r.observer.Notes, c.dossier())
	case CreateDossier:
		if err := r.readLinked(ctx, c.dossier()); err != nil {
			return nil, err
		}
	}
	return read(r.observer.Dossier, c.dossier())
}

// readLinked reads a new dossier's links and their contacts: LeadGrid may have made a contact for it, and contacts count their
// dossiers.
func (r *Runner) readLinked(ctx context.Context, dossier string) error {
	links, err := r.observer.Links(ctx, dossier)
	if err != nil {
		return err
	}
	for _, link := range links.Objects {
		if contact := textOf(objectOf(link), "contact_id"); contact != "" {
			if _, err := r.observer.Contact(ctx, contact); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepContacts asks for a sweep if the mirror still shows a contact that a command has deleted. LeadGrid's answer and a 404 are
// not enough to mark the row as deleted: a complete sweep must miss it too (promise 5).
func (r *Runner) sweepContacts(ctx context.Context, id string) error {
	if r.options.SweepContacts == nil {
		return nil
	}
	return r.observer.Mirror().InTx(ctx, func(tx pgx.Tx) error {
		var live bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM contacts WHERE id = $1 AND _deleted_at IS NULL)`, id).Scan(&live)
		if err != nil {
			return fmt.Errorf("look for deleted contact %s: %w", id, err)
		}
		if !live {
			return nil
		}
		return r.options.SweepContacts(ctx, tx)
	})
}

// uncleared names the fields that LeadGrid should have cleared but did not.
func uncleared(c *Command, object mappings.Object) string {
	if c.Operation != UpdateDossier && c.Operation != UpdateContact {
		return ""
	}
	var fields []string
	for field, value := range c.fields() {
		if string(value) == "null" && !empty(object[field]) {
			fields = append(fields, field)
		}
	}
	if len(fields) == 0 {
		return ""
	}
	slices.Sort(fields)
	return "LeadGrid did not clear " + strings.Join(fields, ", ")
}

// twins checks, for a create that was sent more than once, whether an earlier request was carried out after all. If so, it
// leaves the command to a person and returns true.
func (r *Runner) twins(ctx context.Context, c *Command) bool {
	if !c.creates() || c.Attempts < 2 {
		return false
	}
	at, err := r.observer.Mirror().Begin(ctx)
	if err != nil {
		return false
	}
	found := &evidence{LookedAt: at.BeganAt}
	if err := r.lookFor(ctx, c, found); err != nil {
		return false
	}
	others := slices.DeleteFunc(slices.Clone(found.Candidates), func(other candidate) bool {
		return other.ID == deref(c.LeadGridID) || !other.equal
	})
	if len(others) == 0 {
		return false
	}
	r.ask(ctx, c, fmt.Sprintf("it was sent %d times, and LeadGrid shows %d more of it: it ran more than once", c.Attempts, len(others)), found, nil)
	return true
}
