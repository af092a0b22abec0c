package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Count counts the commands in a state.
type Count struct {
	State State `json:"state"`
	Count int64 `json:"count"`
}

// Counts counts the commands of each state.
func Counts(ctx context.Context, pool *pgxpool.Pool) ([]Count, error) {
	rows, err := pool.Query(ctx, `
		SELECT s.state, count(c.id) FROM unnest($1::text[]) WITH ORDINALITY AS s (state, n) LEFT JOIN commands c USING (state)
		GROUP BY s.state, s.n ORDER BY s.n`, States)
	if err != nil {
		return nil, fmt.Errorf("count commands: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Count])
	if err != nil {
		return nil, fmt.Errorf("count commands: %w", err)
	}
	return counts, nil
}

// List returns the newest commands in the given states, at most limit, oldest first.
func List(ctx context.Context, pool *pgxpool.Pool, states []State, limit int) ([]*Command, error) {
	commands, err := collect(pool.Query(ctx, `
		SELECT `+columns+` FROM commands c WHERE c.state = ANY ($1) ORDER BY c.number DESC LIMIT $2`, states, limit))
	if err != nil {
		return nil, fmt.Errorf("list commands: %w", err)
	}
	slices.Reverse(commands)
	return commands, nil
}

// Waits reports whether the command waits for a person.
func (c *Command) Waits() bool { return c.State == Unknown && c.DueAt == nil }

// Subject returns the id of the object that the command made or is about, empty while that is still to be made.
func (c *Command) Subject() string {
	if c.LeadGridID != nil {
		return *c.LeadGridID
	}
	return c.target()
}

// Change is what a pending update would do to one field.
type Change struct {
	Command   string          `json:"command"`
	Operation Operation       `json:"operation"`
	Kind      mappings.Kind   `json:"kind"`
	ID        string          `json:"id"`
	Field     string          `json:"field"`
	Mirror    json.RawMessage `json:"mirror"`   // what the mirror holds
	LeadGrid  json.RawMessage `json:"leadgrid"` // what LeadGrid holds, commands before this one included
	After     json.RawMessage `json:"after"`    // what the command makes it
	Problem   string          `json:"problem,omitempty"`
}

// Plan returns what pending updates, moves, archivals and restorals would change, in their order. It reads from LeadGrid what
// they would change, and writes nothing.
func Plan(ctx context.Context, pool *pgxpool.Pool, api *leadgridapi.Client) ([]Change, error) {
	commands, err := collect(pool.Query(ctx, `
		SELECT `+columns+` FROM commands c WHERE c.state = 'pending' AND c.operation = ANY ($1) ORDER BY c.number`,
		[]Operation{UpdateDossier, MoveDossier, ArchiveDossier, RestoreDossier, UpdateContact}))
	if err != nil {
		return nil, fmt.Errorf("list pending updates: %w", err)
	}
	var plan []Change
	now := make(map[string]mappings.Object) // by kind and id; nil for what LeadGrid does not have
	for _, c := range commands {
		kind, id := c.Operation.kind(), c.target()
		object, asked := now[string(kind)+id]
		if !asked {
			object, err = fresh(ctx, api, kind, id)
			if err != nil && !errors.Is(err, leadgridapi.ErrNotFound) {
				return nil, err
			}
			now[string(kind)+id] = object
		}
		problem := ""
		if object == nil {
			problem = "LeadGrid does not have it, or not yet"
		} else if wrong := unexpected(c, object, mappings.Default().Table(kind)); len(wrong) > 0 {
			problem = "would be refused: " + strings.Join(wrong, ", ")
		}
		mirrored, err := mirrored(ctx, pool, kind, id)
		if err != nil {
			return nil, err
		}
		changes := c.fields()
		if c.Operation == ArchiveDossier {
			changes = mappings.Object{"status": quoted(leadgridapi.StatusArchived)}
		}
		for _, field := range slices.Sorted(maps.Keys(changes)) {
			plan = append(plan, Change{
				Command: c.ID, Operation: c.Operation, Kind: kind, ID: id, Field: field, Mirror: orNull(mirrored[field]),
				LeadGrid: orNull(object[field]), After: changes[field], Problem: problem,
			})
			if problem == "" {
				object[field] = changes[field]
			}
		}
	}
	return plan, nil
}

func fresh(ctx context.Context, api *leadgridapi.Client, kind mappings.Kind, id string) (mappings.Object, error) {
	if kind == mappings.Contacts {
		contact, err := api.Contact(ctx, id)
		return objectOf(contact.Raw), err
	}
	dossier, err := api.Dossier(ctx, id)
	return objectOf(dossier.Raw), err
}

func mirrored(ctx context.Context, pool *pgxpool.Pool, kind mappings.Kind, id string) (mappings.Object, error) {
	var raw json.RawMessage
	err := pool.QueryRow(ctx, `SELECT coalesce(_raw, to_jsonb(t)) FROM `+pgx.Identifier{string(kind)}.Sanitize()+` t WHERE id = $1`, id).Scan(&raw)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the mirror: %w", err)
	}
	return objectOf(raw), nil
}

func orNull(value json.RawMessage) json.RawMessage {
	if value == nil {
		return json.RawMessage("null")
	}
	return value
}
