package writeback

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// State is how far a command has come.
type State string

// The states of a command. Done and refused are final. Unknown means that nobody knows whether LeadGrid carried it out: it is
// being looked into, or waits for a person.
const (
	Pending State = "pending"
	Sending State = "sending"
	Done    State = "done"
	Refused State = "refused"
	Unknown State = "unknown"
)

// States lists them all.
var States = []State{Pending, Sending, Done, Refused, Unknown}

// Command is one row of commands.
type Command struct {
	ID         string
	Number     int64
	Operation  Operation
	State      State
	LeadGridID *string
	Error      *string
	Attempts   int
	DossierID  *string
	ContactID  *string
	Arguments  json.RawMessage
	Expected   json.RawMessage
	CVFilename *string
	HasCV      bool
	CreatedAt  time.Time
	DueAt      *time.Time
	SentAt     *time.Time
	Sent       *int64 // the observation number of its first sending
	CertainAt  *time.Time
	Looks      int
	Happened   bool
	Confirms   int
	Evidence   json.RawMessage
}

// columns selects the fields of Command from a table aliased c.
const columns = `
	c.id::text, c.number, c.operation, c.state, c.leadgrid_id, c.error, c.attempts, c.dossier_id, c.contact_id, c.arguments,
	c.expected, c.cv_filename, c.cv_sha256 IS NOT NULL, c.created_at, nullif(c.due_at, '-infinity'), c.sent_at, c.sent, c.certain_at,
	c.looks, c.happened, c.confirms, c.evidence`

func collect(rows pgx.Rows, err error) ([]*Command, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Command])
}

// dossier returns the id of the dossier that the command is about or has made.
func (c *Command) dossier() string {
	if c.Operation == CreateDossier {
		return deref(c.LeadGridID)
	}
	return deref(c.DossierID)
}

func (c *Command) contact() string {
	if c.Operation == CreateContact {
		return deref(c.LeadGridID)
	}
	return deref(c.ContactID)
}

// target returns the id of the object that the command makes or changes; of a link, the contact's.
func (c *Command) target() string {
	switch c.Operation.kind() {
	case mappings.Contacts, mappings.Links:
		return c.contact()
	}
	return c.dossier()
}

// creates reports whether the command makes something.
func (c *Command) creates() bool { return slices.Contains(creates, c.Operation) }

// mustNotRepeat reports whether sending the command again could make a second object. A dossier that LeadGrid is known to have
// made only lacks its CV.
func (c *Command) mustNotRepeat() bool {
	return c.creates() && (c.Operation != CreateDossier || c.LeadGridID == nil)
}

// fields returns the fields that the command sends.
func (c *Command) fields() mappings.Object {
	var fields mappings.Object
	_ = json.Unmarshal(c.Arguments, &fields) // jsonb, and an object: the functions see to that
	if c.Operation == CreateDossier && c.ContactID != nil {
		fields["contact_id"] = quoted(*c.ContactID)
	}
	return fields
}

// text returns a field that the command sends, empty if it sends none.
func (c *Command) text(field string) string { return textOf(c.fields(), field) }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func quoted(s string) json.RawMessage {
	text, _ := json.Marshal(s) // a string always encodes
	return text
}

// claimSends takes up to n pending commands whose turn it is: no earlier unfinished command touches the same objects, and what
// they depend on is done. It marks them as sending, for at most the lease, before their first byte goes out.
func (s *store) claimSends(ctx context.Context, n int) ([]*Command, error) {
	commands, err := collect(s.pool.Query(ctx, `
		WITH ready AS (
			SELECT c.id FROM commands c
			WHERE c.state = 'pending' AND c.due_at <= now()
			  AND NOT EXISTS (
				SELECT FROM command_queue mine JOIN command_queue earlier ON earlier.object = mine.object AND earlier.number < mine.number
				WHERE mine.number = c.number)
			  AND NOT EXISTS (SELECT FROM commands maker WHERE maker.id = ANY (c.depends_on) AND maker.state <> 'done')
			ORDER BY c.number LIMIT $1
			FOR UPDATE OF c SKIP LOCKED
		)
		UPDATE commands c
		SET state = 'sending', attempts = c.attempts + 1, due_at = now() + $2::interval, sent_at = coalesce(c.sent_at, clock_timestamp()),
		    sent = coalesce(c.sent, nextval('observations')),
		    arguments = CASE WHEN $3::text <> '' AND c.operation = 'create_dossier' AND c.sent IS NULL
		            AND strpos(coalesce(c.arguments ->> 'intake_notes', ''), c.id::text) = 0
		        THEN c.arguments || jsonb_build_object('intake_notes',
		            concat_ws(E'\n\n', c.arguments ->> 'intake_notes', format('[%s %s]', $3::text, c.id)))
		        ELSE c.arguments END,
		    dossier_id = coalesce((`+madeBy("dossier")+`), c.dossier_id), contact_id = coalesce((`+madeBy("contact")+`), c.contact_id)
		FROM ready WHERE c.id = ready.id
		RETURNING `+columns, n, s.lease, s.marker))
	if err != nil {
		return nil, fmt.Errorf("claim commands: %w", err)
	}
	return commands, nil
}

// marks reports whether an object carries this command's marker, its id.
func (c *Command) marks(object mappings.Object) bool {
	return c.Operation == CreateDossier && strings.Contains(textOf(object, "intake_notes"), c.ID)
}

// madeBy is a subquery for the object made by the command whose id stands as an argument of this one.
func madeBy(kind string) string {
	return `SELECT maker.leadgrid_id FROM commands maker
		WHERE maker.id = ANY (c.depends_on) AND maker.id::text = lower(c.` + kind + `_id) AND maker.operation = 'create_` + kind + `'`
}

// claimLooks takes up to n commands of unknown outcome that are due to be looked into.
func (s *store) claimLooks(ctx context.Context, n int) ([]*Command, error) {
	return s.claimDue(ctx, n, `c.state = 'unknown'`, `looks = c.looks + 1`)
}

// claimConfirms takes up to n commands that are done and whose outcome is to be read.
func (s *store) claimConfirms(ctx context.Context, n int) ([]*Command, error) {
	return s.claimDue(ctx, n, `c.state = 'done' AND c.confirms > 0`, `confirms = c.confirms`)
}

func (s *store) claimDue(ctx context.Context, n int, which, set string) ([]*Command, error) {
	commands, err := collect(s.pool.Query(ctx, `
		WITH ready AS (
			SELECT c.id FROM commands c WHERE `+which+` AND c.due_at <= now() ORDER BY c.due_at, c.number LIMIT $1
			FOR UPDATE OF c SKIP LOCKED
		)
		UPDATE commands c SET due_at = now() + $2::interval, `+set+`
		FROM ready WHERE c.id = ready.id
		RETURNING `+columns, n, s.lease))
	if err != nil {
		return nil, fmt.Errorf("claim commands: %w", err)
	}
	return commands, nil
}
