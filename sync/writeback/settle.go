package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// Decision is a person's verdict on a command whose outcome is unknown. Exactly one field is set.
type Decision struct {
	Done    string // LeadGrid carried it out, and this is the id of what it made
	Refused bool   // LeadGrid did not carry it out, and it shall not be sent again
	Retry   bool   // LeadGrid did not carry it out, and it shall be sent again
}

// ErrSettled means that the command's outcome is not unknown, so that there is nothing to settle.
var ErrSettled = errors.New("only a command whose outcome is unknown can be settled")

// Settle applies a decision to a command, and returns its new state. An object that the decision names must exist in LeadGrid.
func Settle(ctx context.Context, observer *observe.Observer, id string, decision Decision) (State, error) {
	pool := observer.Mirror().Pool()
	commands, err := collect(pool.Query(ctx, `SELECT `+columns+` FROM commands c WHERE c.id::text = lower($1)`, id))
	if err != nil {
		return "", fmt.Errorf("load command: %w", err)
	}
	if len(commands) == 0 {
		return "", fmt.Errorf("there is no command %s", id)
	}
	c, s := commands[0], &store{pool: pool}
	if c.State != Unknown {
		return c.State, fmt.Errorf("%w: this one is %s", ErrSettled, c.State)
	}
	var finished bool
	if err := pool.QueryRow(ctx, `SELECT finished_at IS NOT NULL FROM commands WHERE id = $1::uuid`, c.ID).Scan(&finished); err != nil {
		return "", fmt.Errorf("load command: %w", err)
	}
	if finished && decision.Done == "" {
		return c.State, fmt.Errorf("it was done as %s, and perhaps more than once: remove in LeadGrid what is too much, and settle it as done", deref(c.LeadGridID))
	}
	state := Refused
	switch {
	case decision.Done != "":
		state, err = settleDone(ctx, s, observer, c, decision.Done)
	case decision.Retry:
		state, err = Pending, s.postpone(c, 0, "to be sent again, says a person", true)(ctx)
	default:
		err = s.refuse(c, "not carried out, says a person", nil, true)(ctx)
	}
	if err != nil {
		return c.State, err
	}
	if _, err := pool.Exec(ctx, `SELECT pg_notify($1, '')`, channel); err != nil {
		return state, fmt.Errorf("wake the worker: %w", err)
	}
	return state, nil
}

func settleDone(ctx context.Context, s *store, observer *observe.Observer, c *Command, id string) (State, error) {
	object, err := shownAs(ctx, observer, c, id)
	if err != nil {
		return c.State, err
	}
	m := made{
		id: id, object: object, confirms: 1, confirm: observer.Mirror().Lag() + time.Second,
		evidence: &evidence{LookedAt: time.Now(), Where: []string{"a person"}, Candidates: []candidate{{ID: id, Likeness: "settled by hand"}}},
	}
	state := Done
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if c.Operation == CreateDossier && c.HasCV && empty(objectOf(object)["cv_url"]) {
			state = Pending
			return s.uploadNext(ctx, tx, c, m)
		}
		return s.done(ctx, tx, c, m)
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23505" {
		return c.State, fmt.Errorf("%s was made by another command", id)
	}
	return state, err
}

// shownAs reads the object that a command is said to have made or changed.
func shownAs(ctx context.Context, observer *observe.Observer, c *Command, id string) (json.RawMessage, error) {
	var result observe.Result
	var err error
	switch c.Operation.kind() {
	case mappings.Contacts:
		result, err = observer.Contact(ctx, id)
	case mappings.Notes:
		result, err = observer.Notes(ctx, c.dossier())
	case mappings.Links:
		return nil, nil // the reads that follow show it
	default:
		result, err = observer.Dossier(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	for _, object := range result.Objects {
		if textOf(objectOf(object), "id") == id {
			return object, nil
		}
	}
	if c.Operation == DeleteContact {
		return nil, nil
	}
	return nil, fmt.Errorf("LeadGrid has no %s %s", c.Operation.thing(), id)
}

// thing names the kind of object that an id of this operation stands for.
func (o Operation) thing() string {
	switch o.kind() {
	case mappings.Contacts, mappings.Links:
		return "contact"
	case mappings.Notes:
		return "note"
	}
	return "dossier"
}
