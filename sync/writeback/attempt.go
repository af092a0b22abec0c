package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// beforeError marks an error that came up before the command was sent.
type beforeError struct{ err error }

func (e *beforeError) Error() string { return e.err.Error() }
func (e *beforeError) Unwrap() error { return e.err }

// refusal is our own decision that a command must not be sent.
type refusal string

func (e refusal) Error() string { return string(e) }

// attempt sends a claimed command and stores the outcome.
func (r *Runner) attempt(ctx context.Context, c *Command) {
	at, linked, err := r.before(ctx, c)
	switch {
	case err != nil:
		r.failed(ctx, c, &beforeError{err})
		return
	case linked != nil:
		r.finish(ctx, c, made{id: c.contact(), object: linked})
		return
	}
	object, err := r.send(ctx, c)
	scopes := c.Operation.scopes()
	if err != nil {
		if _, gateErr := r.gate.Refused(ctx, err, scopes...); gateErr != nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "refusal not noted", slog.String("error", gateErr.Error()))
		}
		r.failed(ctx, c, err)
		return
	}
	// An error here does not concern the command, and the next answer will try again.
	_ = r.gate.Answered(ctx, scopes...)
	r.carriedOut(ctx, c, object, at)
}

// before checks what must hold before a command may be sent, and returns the number in the order of reads that its answer
// will have; or else the link that the command is to make, if an earlier attempt has made it.
func (r *Runner) before(ctx context.Context, c *Command) (at mirror.Observation, linked json.RawMessage, err error) {
	if err := r.prove(ctx); err != nil {
		return at, nil, err
	}
	if c.Operation == LinkContact && c.Attempts > 1 {
		// LeadGrid does not document what linking the same contact a second time does.
		if linked, err = r.linked(ctx, c); linked != nil || err != nil {
			return at, linked, err
		}
	}
	if err := r.checkExpected(ctx, c); err != nil {
		return at, nil, err
	}
	if at, err = r.observer.Mirror().Begin(ctx); err != nil {
		return at, nil, err
	}
	return at, nil, r.gate.Check(ctx, c.Operation.scopes()...)
}

// checkExpected reads what an update is to change, and refuses the update if that is not as its writer expects.
func (r *Runner) checkExpected(ctx context.Context, c *Command) error {
	if c.Expected == nil {
		return nil
	}
	read := r.observer.Dossier
	if c.Operation == UpdateContact {
		read = r.observer.Contact
	}
	result, err := read(ctx, c.target())
	if err != nil {
		return err
	}
	if result.NotFound {
		return refusal("LeadGrid answered 404: it is not there to be updated")
	}
	if wrong := unexpected(c, objectOf(result.Objects[0]), r.mapping.Table(c.Operation.kind())); len(wrong) > 0 {
		return refusal("it is not as expected: " + strings.Join(wrong, ", "))
	}
	return nil
}

// unexpected lists the fields that are not as the command expects. After an attempt that may have been carried out, a field
// may also have the command's own value.
func unexpected(c *Command, object mappings.Object, table *mappings.Table) (wrong []string) {
	changes := c.fields()
	for field, want := range objectOf(c.Expected) {
		change, changed := changes[field]
		if !same(want, object[field]) && !(changed && c.Attempts > 1 && same(change, object[field])) {
			shown := "null"
			if value := object[field]; value != nil {
				shown = string(value)
			}
			if !lands(table, field) {
				wrong = append(wrong, field+" is another")
				continue
			}
			wrong = append(wrong, storable(fmt.Sprintf("%s is %s, not %s", field, shown, want)))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// linked returns the link that the command is to make, or nil if LeadGrid does not show it.
func (r *Runner) linked(ctx context.Context, c *Command) (json.RawMessage, error) {
	result, err := r.observer.Links(ctx, c.dossier())
	if err != nil {
		return nil, err
	}
	for _, object := range result.Objects {
		link := objectOf(object)
		if textOf(link, "contact_id") != c.contact() {
			continue
		}
		for field, value := range c.fields() {
			if !same(value, link[field]) {
				return nil, nil
			}
		}
		return object, nil
	}
	return nil, nil
}

// prove fails unless the key belongs to the mirrored organization.
func (r *Runner) prove(ctx context.Context) error {
	key := r.options.Key()
	r.mu.Lock()
	proven := time.Since(r.proven) < provenFor && key == r.key
	r.mu.Unlock()
	if proven {
		return nil
	}
	if err := r.observer.Prove(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.proven, r.key = time.Now(), key
	r.mu.Unlock()
	return nil
}

// carriedOut ends a command that LeadGrid has carried out, and mirrors the answer in the same transaction.
func (r *Runner) carriedOut(ctx context.Context, c *Command, object json.RawMessage, at mirror.Observation) {
	m := made{id: c.target(), object: object, confirms: 1, confirm: r.caughtUp()}
	if c.Operation == CreateDossier && c.LeadGridID != nil {
		m.id = *c.LeadGridID // it was made before, and now got its CV
	} else if c.mustNotRepeat() {
		if m.id = textOf(objectOf(object), "id"); m.id == "" {
			r.doubt(ctx, c, surely, errors.New("LeadGrid answered without an id"))
			return
		}
	}
	if object == nil && c.Operation != DeleteContact {
		m.confirms, m.confirm = 2, 0
	}
	if object != nil {
		read := mirror.Read{
			Observation: at, Kind: c.Operation.kind(), Endpoint: mirror.Answers, Objects: []json.RawMessage{object}, Insert: true,
		}
		if read.Kind == mappings.Links || read.Kind == mappings.Notes {
			read.Parent = c.dossier()
		}
		// Bracketed: the key was proved before the command was sent.
		_, err := r.observer.Apply(ctx, read, true, func(tx pgx.Tx, applied mirror.Applied) error {
			thin, err := r.thin(ctx, tx, read.Kind, object)
			if err != nil {
				return err
			}
			if thin || applied.Stale > 0 { // stale: a read that began later saw the state before
				m.confirms, m.confirm = 2, 0
			}
			return r.store.done(ctx, tx, c, m)
		})
		if err == nil {
			c.LeadGridID = &m.id
			r.ended(ctx, c, Done, nil)
			return
		}
		m.confirms, m.confirm = 2, 0 // the answer counts, mirrored or not
	}
	r.finish(ctx, c, m)
}

// reads are the endpoints that show every field of what a command made or changed.
var reads = map[mappings.Kind]mirror.Endpoint{
	mappings.Dossiers: mirror.GetDossier, mappings.Contacts: mirror.GetContact,
	mappings.Links: mirror.ListLinks, mappings.Notes: mirror.ListNotes,
}

// thin reports whether LeadGrid's answer lacks what a read would show.
func (r *Runner) thin(ctx context.Context, tx pgx.Tx, kind mappings.Kind, object json.RawMessage) (thin bool, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) = 0 OR bool_or(key <> ALL ($2)) FROM sync_shapes WHERE endpoint = $1`,
		reads[kind], slices.Collect(maps.Keys(objectOf(object)))).Scan(&thin)
	if err != nil {
		return false, fmt.Errorf("hold the answer against what reads show: %w", err)
	}
	return thin, nil
}

// finish ends a command as done.
func (r *Runner) finish(ctx context.Context, c *Command, m made) {
	state := Done
	done := r.store.inTx(func(ctx context.Context, tx pgx.Tx) error { return r.store.done(ctx, tx, c, m) })
	r.keep(ctx, c, func(ctx context.Context) error {
		err := done(ctx)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23505" {
			state = Unknown
			return r.store.ask(c, fmt.Sprintf("LeadGrid shows %s, which another command has made", m.id), m.evidence)(ctx)
		}
		return err
	})
	c.LeadGridID = &m.id
	r.ended(ctx, c, state, nil)
}

// failed stores the outcome of an attempt that ended in an error.
func (r *Runner) failed(ctx context.Context, c *Command, err error) {
	o, wait := judge(err)
	_, before := errors.AsType[*beforeError](err)
	gone := errors.Is(err, leadgridapi.ErrNotFound) && !before
	switch {
	case o == notYet:
		if wait == 0 {
			wait = 5 * r.options.Pause
		}
		r.keep(ctx, c, r.store.postpone(c, wait, inWords(err), false))
	case gone && c.Attempts > 1 && (c.Operation == DeleteContact || c.Operation == UnlinkContact):
		r.carriedOut(ctx, c, nil, mirror.Observation{}) // an earlier attempt did it
	case errors.Is(err, leadgridapi.ErrDuplicateContact) && c.Operation == CreateContact:
		r.duplicate(ctx, c, err)
	case o == never && before && c.Attempts > 1:
		r.ask(ctx, c, inWords(err)+"; an attempt before this may have been carried out", nil, err)
	case o == never:
		r.refuse(ctx, c, inWords(err), err)
	case c.mustNotRepeat():
		r.doubt(ctx, c, o, err)
	case o == surely:
		r.carriedOut(ctx, c, nil, mirror.Observation{})
	case c.tired(time.Now()):
		r.ask(ctx, c, fmt.Sprintf("sent %d times, the last time: %s", c.Attempts, inWords(err)), nil, err)
	default:
		r.keep(ctx, c, r.store.postpone(c, r.backoff(c.Attempts), inWords(err), true))
	}
}

// duplicate handles LeadGrid's refusal of a contact whose e-mail exists: it belongs to another contact, or to one that an
// earlier attempt made.
func (r *Runner) duplicate(ctx context.Context, c *Command, err error) {
	if c.Attempts > 1 {
		r.keep(ctx, c, r.store.doubt(c, "a contact with this e-mail exists: it may be what an earlier attempt made",
			r.options.Pause/2, r.caughtUp(), true))
		return
	}
	reasons := []string{"LeadGrid has a contact with this e-mail already"}
	email := c.text("email")
	listed, lookErr := r.observer.ListContacts(ctx, leadgridapi.ContactFilter{Search: email}, leadgridapi.PageRequest{PerPage: leadgridapi.MaxPerPage})
	if lookErr == nil {
		for _, object := range listed.Objects {
			if fields := objectOf(object); strings.EqualFold(textOf(fields, "email"), email) {
				reasons = append(reasons, "contact "+textOf(fields, "id"))
			}
		}
	}
	r.refuse(ctx, c, strings.Join(reasons, ": "), err)
}

// tired reports whether a command has been tried for so long that a person should look at it.
func (c *Command) tired(now time.Time) bool {
	return c.SentAt != nil && now.Sub(*c.SentAt) > longestTrying
}

// backoff doubles the pause with every try.
func (r *Runner) backoff(times int) time.Duration {
	if times <= 0 {
		return 0
	}
	return min(r.options.Pause<<min(times-1, 10), longestWait)
}

// caughtUp is how long after an answer even a lagging replica of LeadGrid shows what the answer was about.
func (r *Runner) caughtUp() time.Duration { return r.observer.Mirror().Lag() + r.options.Pause }

// doubt marks a create as unknown, to be looked into.
func (r *Runner) doubt(ctx context.Context, c *Command, o outcome, err error) {
	r.log.LogAttrs(ctx, slog.LevelWarn, "command in doubt", slog.String("command", c.ID), slog.String("operation", string(c.Operation)),
		slog.Int("attempts", c.Attempts), slog.Any("error", err))
	certain := r.certainAfter(o)
	if c.Operation == CreateContact && c.text("email") != "" {
		certain = 0 // LeadGrid refuses a second contact with the same e-mail
	}
	r.keep(ctx, c, r.store.doubt(c, inWords(err), r.options.Pause/2, certain, o == surely))
}

// certainAfter is how long after an attempt a look that finds nothing proves that nothing was done.
func (r *Runner) certainAfter(o outcome) time.Duration {
	if o == perhaps {
		return r.observer.Mirror().Lag() + r.options.Late
	}
	return r.caughtUp()
}

func (r *Runner) refuse(ctx context.Context, c *Command, reason string, err error) {
	_, before := errors.AsType[*beforeError](err)
	r.keep(ctx, c, r.store.refuse(c, reason, nil, !before))
	r.ended(ctx, c, Refused, err)
}

func (r *Runner) ask(ctx context.Context, c *Command, reason string, found *evidence, err error) {
	r.keep(ctx, c, r.store.ask(c, reason, found))
	r.ended(ctx, c, Unknown, err)
}
