// Package observe reads LeadGrid for the mirror. Every read takes its number in the order of observations, asks LeadGrid, makes
// sure that the answer came from the mirrored organization, and hands it to the mirror. Start reading at [Observer.Dossier].
package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// Observer reads LeadGrid for a mirror. It is safe for use by many goroutines.
type Observer struct {
	api    *leadgridapi.Client
	mirror *mirror.Mirror
	gate   *access.Gate
	pause  time.Duration
	report Report
	proof  bool // its requests show which organization answers
	many   bool // its requests follow each other closely
}

// Report is called with what was committed to a kind's table: how many rows were inserted or updated, and how many marked as
// deleted.
type Report func(ctx context.Context, kind mappings.Kind, changed, deleted int)

// DefaultPause is the wait before a failed read is sent again for the first time; later waits are longer.
const DefaultPause = 250 * time.Millisecond

// New returns an Observer. The client's limiter decides when requests may be sent.
func New(api *leadgridapi.Client, m *mirror.Mirror, gate *access.Gate) *Observer {
	return &Observer{api: api, mirror: m, gate: gate, pause: DefaultPause,
		report: func(context.Context, mappings.Kind, int, int) {}}
}

// WithPause returns an Observer with another wait than DefaultPause.
func (o *Observer) WithPause(pause time.Duration) *Observer {
	patient := *o
	patient.pause = pause
	return &patient
}

// WithLimiter returns an Observer that asks another limiter.
func (o *Observer) WithLimiter(limiter leadgridapi.Limiter) *Observer {
	limited := *o
	limited.api = o.api.WithLimiter(limiter)
	return &limited
}

// WithReport returns an Observer that reports what it writes.
func (o *Observer) WithReport(report Report) *Observer {
	reporting := *o
	reporting.report = report
	return &reporting
}

// Mirror is where observations go.
func (o *Observer) Mirror() *mirror.Mirror { return o.mirror }

// Result is the result of an observation.
type Result struct {
	mirror.Applied
	// NotFound says that LeadGrid answered 404; nothing was applied.
	NotFound bool
	// Confirmed says that this 404 was the last evidence needed that the row is gone.
	Confirmed bool
	// Requests is how many requests it took.
	Requests int
	// Objects are the objects as LeadGrid gave them.
	Objects []json.RawMessage
}

// Add adds another observation's result to r.
func (r *Result) Add(other Result) {
	r.Applied.Add(other.Applied)
	r.NotFound = r.NotFound || other.NotFound
	r.Requests += other.Requests
}

// Step is committed together with what an observation applies.
type Step func(tx pgx.Tx, applied mirror.Applied) error

// mostTries is how often a failing read is sent before its error is returned. Reads are retried nowhere else. Each try takes its
// own number.
const mostTries = 4

// ask sends one read.
func ask[T any](ctx context.Context, o *Observer, scope string, send func() (T, error)) (answer T, at mirror.Observation, err error) {
	answer, err = backoff.Retry(ctx, func() (T, error) {
		answer, err := askOnce(ctx, o, scope, &at, send)
		if err != nil && !leadgridapi.Temporary(err) {
			return answer, backoff.Permanent(err)
		}
		return answer, err
	}, backoff.WithBackOff(o.pauses()), backoff.WithMaxTries(mostTries))
	return answer, at, err
}

func (o *Observer) pauses() backoff.BackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = o.pause
	return pauses
}

func askOnce[T any](ctx context.Context, o *Observer, scope string, at *mirror.Observation, send func() (T, error)) (answer T, err error) {
	check := o.gate.Check
	if o.proof {
		check = o.gate.CheckProof
	}
	if err := check(ctx, scope); err != nil {
		return answer, err
	}
	begin := o.mirror.Begin
	if o.many {
		begin = o.mirror.BeginOneOfMany
	}
	if *at, err = begin(ctx); err != nil {
		return answer, err
	}
	answer, err = send()
	if err == nil || errors.Is(err, leadgridapi.ErrNotFound) {
		if err := o.gate.Answered(ctx, scope); err != nil {
			return answer, err
		}
		return answer, err
	}
	if _, gateErr := o.gate.Refused(ctx, err, scope); gateErr != nil {
		return answer, errors.Join(err, gateErr)
	}
	return answer, err
}

// Dossier reads one dossier.
func (o *Observer) Dossier(ctx context.Context, id string, steps ...Step) (Result, error) {
	return o.one(ctx, mappings.Dossiers, id, steps)
}

// Contact reads one contact.
func (o *Observer) Contact(ctx context.Context, id string, steps ...Step) (Result, error) {
	return o.one(ctx, mappings.Contacts, id, steps)
}

// errOvertaken means that pages of a list kept showing an object while it was read.
var errOvertaken = errors.New("lists kept showing it while it was read")

// one reads an object by its id. It reads again if a page of a list, read meanwhile, showed the object: the page began later and
// is believed, but it may hide fields.
func (o *Observer) one(ctx context.Context, kind mappings.Kind, id string, steps []Step) (result Result, err error) {
	requests := 0
	for range mostReads {
		result, err = o.oneOnce(ctx, kind, id, func(tx pgx.Tx, applied mirror.Applied) error {
			if applied.Overtaken {
				return nil
			}
			return runSteps(tx, applied, steps)
		})
		requests += result.Requests
		result.Requests = requests
		if err != nil || !result.Overtaken {
			return result, err
		}
	}
	return result, fmt.Errorf("%s %s: %w", kind, id, errOvertaken)
}

func (o *Observer) oneOnce(ctx context.Context, kind mappings.Kind, id string, step Step) (Result, error) {
	return again(func(bracketed bool) (Result, error) {
		read, err := o.get(ctx, kind, id)
		if errors.Is(err, leadgridapi.ErrNotFound) {
			return o.notFound(ctx, kind, id, read.Observation)
		}
		if err != nil {
			return Result{}, err
		}
		applied, err := o.Apply(ctx, read, bracketed, step)
		return Result{Applied: applied, Requests: 1, Objects: read.Objects}, err
	})
}

// get reads a dossier or a contact. Where it could not be read, the result holds no more than when that was.
func (o *Observer) get(ctx context.Context, kind mappings.Kind, id string) (read mirror.Read, err error) {
	var raw json.RawMessage
	read = mirror.Read{Kind: kind, Whole: true}
	if kind == mappings.Contacts {
		var contact leadgridapi.Contact
		contact, read.Observation, err = ask(ctx, o, "contacts:read", func() (leadgridapi.Contact, error) { return o.api.Contact(ctx, id) })
		read.Endpoint, raw = mirror.GetContact, contact.Raw
	} else {
		var dossier leadgridapi.Dossier
		dossier, read.Observation, err = ask(ctx, o, "dossiers:read", func() (leadgridapi.Dossier, error) { return o.api.Dossier(ctx, id) })
		read.Endpoint, raw = mirror.GetDossier, dossier.Raw
	}
	if err != nil {
		return read, err
	}
	if err := sameID(raw, id); err != nil {
		return read, fmt.Errorf("%s %s: %w", read.Endpoint, id, err)
	}
	read.Objects = []json.RawMessage{raw}
	return read, nil
}

// again repeats a read that did not show which organization it came from. The organization has been proved in between, and will be
// proved again afterwards, which brackets the second read.
func again(read func(bracketed bool) (Result, error)) (Result, error) {
	result, err := read(false)
	if errors.Is(err, mirror.ErrUnproven) {
		return read(true)
	}
	return result, err
}

// sameID refuses an answer with another object than was asked for, such as a proxy may give: it would be ordered wrongly.
func sameID(raw json.RawMessage, id string) error {
	var object mappings.Object
	if err := json.Unmarshal(raw, &object); err != nil {
		return err
	}
	if got := mappings.Text.Convert(object["id"]); got == nil || *got != id {
		return errors.New("LeadGrid answered with another object than was asked for")
	}
	return nil
}

func (o *Observer) notFound(ctx context.Context, kind mappings.Kind, id string, at mirror.Observation) (Result, error) {
	result := Result{NotFound: true, Requests: 1}
	err := o.mirror.InTx(ctx, func(tx pgx.Tx) (err error) {
		result.Confirmed, err = o.mirror.NotFound(ctx, tx, kind, id, at)
		return err
	})
	return result, err
}

// Apply hands a read to the mirror together with the steps it completes.
//
// If nothing in the read shows that it came from the mirrored organization, Apply proves the organization and returns
// mirror.ErrUnproven. The caller then reads again, with bracketed set; if still nothing shows it, a second proof after that
// read is enough.
func (o *Observer) Apply(ctx context.Context, read mirror.Read, bracketed bool, steps ...Step) (mirror.Applied, error) {
	return o.proven(ctx, read.Kind, bracketed, func(proven bool) (applied mirror.Applied, err error) {
		read.Proven = proven
		err = o.mirror.InTx(ctx, func(tx pgx.Tx) error {
			if applied, err = o.mirror.Apply(ctx, tx, read); err != nil {
				return err
			}
			return runSteps(tx, applied, steps)
		})
		return applied, err
	})
}

// ApplyPages is Apply for several pages of one list, in one transaction.
func (o *Observer) ApplyPages(
	ctx context.Context, reads []mirror.Read, bracketed bool, step func(tx pgx.Tx, applied []mirror.Applied) error,
) error {
	_, err := o.proven(ctx, reads[0].Kind, bracketed, func(proven bool) (all mirror.Applied, err error) {
		for i := range reads {
			reads[i].Proven = proven
		}
		err = o.mirror.InTx(ctx, func(tx pgx.Tx) error {
			applied, err := o.mirror.ApplyAll(ctx, tx, reads)
			if err != nil {
				return err
			}
			for _, one := range applied {
				all.Add(one)
			}
			return step(tx, applied)
		})
		return all, err
	})
	return err
}

func (o *Observer) applyComplete(ctx context.Context, read mirror.Complete, bracketed bool, steps []Step) (mirror.Applied, error) {
	return o.proven(ctx, read.Kind, bracketed, func(proven bool) (applied mirror.Applied, err error) {
		for i := range read.Pages {
			read.Pages[i].Proven = proven
		}
		err = o.mirror.InTx(ctx, func(tx pgx.Tx) error {
			if applied, err = o.mirror.ApplyComplete(ctx, tx, read); err != nil {
				return err
			}
			return runSteps(tx, applied, steps)
		})
		return applied, err
	})
}

func runSteps(tx pgx.Tx, applied mirror.Applied, steps []Step) error {
	for _, step := range steps {
		if err := step(tx, applied); err != nil {
			return err
		}
	}
	return nil
}

func (o *Observer) proven(
	ctx context.Context, kind mappings.Kind, bracketed bool, apply func(proven bool) (mirror.Applied, error),
) (mirror.Applied, error) {
	applied, err := apply(false)
	if errors.Is(err, mirror.ErrUnproven) {
		if err := o.Prove(ctx); err != nil {
			return mirror.Applied{}, err
		}
		if !bracketed {
			return mirror.Applied{}, mirror.ErrUnproven
		}
		applied, err = apply(true)
	}
	switch {
	case errors.Is(err, mirror.ErrOtherOrganization):
		return mirror.Applied{}, errors.Join(err, o.gate.Foreign(ctx))
	case err != nil:
		return mirror.Applied{}, err
	}
	o.report(ctx, kind, applied.Changed, len(applied.Deleted))
	if applied.Proved {
		err = o.gate.Proven(ctx)
	}
	return applied, err
}

// Tombstone marks rows as deleted for which LeadGrid has twice answered 404, and their children. It returns how many rows of the
// kind itself were marked.
func (o *Observer) Tombstone(ctx context.Context, kind mappings.Kind, ids []string) (deleted int, err error) {
	at, err := o.mirror.Begin(ctx)
	if err != nil {
		return 0, err
	}
	var gone map[mappings.Kind]int
	err = o.mirror.InTx(ctx, func(tx pgx.Tx) error {
		gone, err = o.mirror.Tombstone(ctx, tx, kind, ids, at)
		return err
	})
	if err != nil {
		return 0, err
	}
	for kind, rows := range gone {
		o.report(ctx, kind, 0, rows)
	}
	return gone[kind], nil
}
