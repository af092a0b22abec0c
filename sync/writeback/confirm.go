package writeback

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// confirmAll reads what commands did.
func (r *Runner) confirmAll(ctx context.Context, commands []*Command) {
	var group errgroup.Group
	group.SetLimit(lookers)
	for _, c := range commands {
		group.Go(func() error { r.confirm(ctx, c); return nil })
	}
	_ = group.Wait() // nobody returns an error
}

// confirm reads what a command did, so that the mirror holds all of it and not only what LeadGrid answered. The last time,
// when no replica can be behind any more, it reports what LeadGrid did not do although it answered that it had.
func (r *Runner) confirm(ctx context.Context, c *Command) {
	left := c.Confirms - 1
	object, err := r.readBack(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return // its lease brings it back
		}
		o, wait := judge(err)
		if o != notYet || wait == 0 {
			wait = 10 * r.options.Pause
		}
		r.log.LogAttrs(ctx, slog.LevelInfo, "command not confirmed", slog.String("command", c.ID), slog.Any("error", err))
		r.keep(ctx, c, func(ctx context.Context) error { return r.store.confirmed(ctx, c, c.Confirms, wait, "") })
		return
	}
	amiss := ""
	if left == 0 {
		amiss = uncleared(c, object)
		if r.twins(ctx, c) {
			return
		}
	}
	r.keep(ctx, c, func(ctx context.Context) error {
		return r.store.confirmed(ctx, c, left, r.caughtUp(), amiss)
	})
}

// readBack reads, through the mirror, what a command touched, and returns the object that an update changed.
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

// readLinked reads a new dossier's links and their contacts: LeadGrid may have made one for it, and each counts its dossiers.
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

// sweepContacts brings a sweep forward for a contact that a command has deleted and that the mirror still shows: LeadGrid's
// answer and its 404 are not enough to mark a row as deleted, a complete sweep must not see it either (promise 5).
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

// uncleared says which fields an update was to clear and LeadGrid did not.
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

// twins looks, after a create that was sent more than once, whether a request given up earlier was carried out after all.
// It reports whether it was, which a person must know.
func (r *Runner) twins(ctx context.Context, c *Command) bool {
	if !c.creates() || c.Attempts < 2 {
		return false
	}
	at, err := r.observer.Mirror().Begin(ctx)
	if err != nil {
		return false
	}
	found := &evidence{LookedAt: at.BeganAt}
	switch c.Operation {
	case CreateDossier:
		shown, err := r.recentDossiers(ctx, []*Command{c})
		if err == nil {
			err = r.listDossiers(ctx, c.text("type"), shown)
		}
		if err == nil {
			err = r.lookForDossier(ctx, c, shown, map[string]json.RawMessage{}, found)
		}
		if err != nil {
			return false
		}
	case CreateContact:
		err = r.lookForContact(ctx, c, found)
	case AddNote:
		err = r.lookForNote(ctx, c, found)
	}
	others := slices.DeleteFunc(slices.Clone(found.Candidates), func(other candidate) bool {
		return other.ID == deref(c.LeadGridID) || !other.equal
	})
	if err != nil || len(others) == 0 {
		return false
	}
	r.ask(ctx, c, fmt.Sprintf("it was sent %d times, and LeadGrid shows %d more of it: it ran more than once", c.Attempts, len(others)), found, nil)
	return true
}
