package writeback

import (
	"encoding/json"
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

// marks reports whether an object carries this command's marker, its id.
func (c *Command) marks(object mappings.Object) bool {
	return c.Operation == CreateDossier && strings.Contains(textOf(object, "intake_notes"), c.ID)
}
