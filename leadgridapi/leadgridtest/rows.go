package leadgridtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Rows are never changed once stored: an edit stores a changed copy. So a lagging replica can share the
// primary's rows and still be behind it.

// instant is a time in microseconds since 1970: a third of a time.Time, and what Postgres keeps too.
type instant int64

func (t instant) time() time.Time { return time.UnixMicro(int64(t)).UTC() }

// number is a JSON number as text, so that no digit is lost.
type number string

// visit is called with each documented field of a row, in the contract's order. Values are string, *string,
// *number, bool, int, []string, instant, or []stage (a flow's stages).
type visit func(key string, value any)

type dossier struct {
	id               string
	typ, name        string
	status           string
	email, phone     *string
	city, company    *string
	role             *string
	contactPerson    *string
	dealSize         *number
	dealCurrency     *string
	flowID, stageID  *string
	assignedTo       *string
	intakeNotes      *string
	cvURL, contactID *string
	created, updated instant
}

func (d *dossier) each(organization string, v visit) {
	v("id", d.id)
	v("organization_id", organization)
	v("type", d.typ)
	v("name", d.name)
	v("email", d.email)
	v("phone", d.phone)
	v("city", d.city)
	v("company", d.company)
	v("role", d.role)
	v("contact_person", d.contactPerson)
	v("deal_size", d.dealSize)
	v("deal_currency", d.dealCurrency)
	v("status", d.status)
	v("flow_id", d.flowID)
	v("current_stage_id", d.stageID)
	v("assigned_to", d.assignedTo)
	v("intake_notes", d.intakeNotes)
	v("cv_url", d.cvURL)
	v("contact_id", d.contactID)
	v("created_at", d.created)
	v("updated_at", d.updated)
}

// set changes one field; the value is what [Fields] allows.
func (d *dossier) set(key string, value any) error {
	switch key {
	case "type":
		return assign(&d.typ, key, value)
	case "name":
		return assign(&d.name, key, value)
	case "status":
		return assign(&d.status, key, value)
	case "email":
		return assignNullable(&d.email, key, value)
	case "phone":
		return assignNullable(&d.phone, key, value)
	case "city":
		return assignNullable(&d.city, key, value)
	case "company":
		return assignNullable(&d.company, key, value)
	case "role":
		return assignNullable(&d.role, key, value)
	case "contact_person":
		return assignNullable(&d.contactPerson, key, value)
	case "deal_size":
		return assignNumber(&d.dealSize, key, value)
	case "deal_currency":
		return assignNullable(&d.dealCurrency, key, value)
	case "flow_id":
		return assignNullable(&d.flowID, key, value)
	case "current_stage_id":
		return assignNullable(&d.stageID, key, value)
	case "assigned_to":
		return assignNullable(&d.assignedTo, key, value)
	case "intake_notes":
		return assignNullable(&d.intakeNotes, key, value)
	case "cv_url":
		return assignNullable(&d.cvURL, key, value)
	case "contact_id":
		return assignNullable(&d.contactID, key, value)
	}
	return fmt.Errorf("a dossier has no field %q that can be set", key)
}

// same reports whether two versions say the same, times aside.
func (d *dossier) same(e *dossier) bool {
	return d.typ == e.typ && d.name == e.name && d.status == e.status &&
		equal(d.email, e.email) && equal(d.phone, e.phone) && equal(d.city, e.city) && equal(d.company, e.company) &&
		equal(d.role, e.role) && equal(d.contactPerson, e.contactPerson) && equal(d.dealSize, e.dealSize) &&
		equal(d.dealCurrency, e.dealCurrency) && equal(d.flowID, e.flowID) && equal(d.stageID, e.stageID) &&
		equal(d.assignedTo, e.assignedTo) && equal(d.intakeNotes, e.intakeNotes) && equal(d.cvURL, e.cvURL) &&
		equal(d.contactID, e.contactID)
}

type contact struct {
	id            string
	name          string
	email, phone  *string
	linkedin      *string
	company, role *string
	city, notes   *string
	kinds         []string
	pool          string // in_pool, expired, or empty: only a filter, never in an answer
	created       instant
}

func (c *contact) each(dossiers int, v visit) {
	v("id", c.id)
	v("full_name", c.name)
	v("email", c.email)
	v("phone", c.phone)
	v("linkedin_url", c.linkedin)
	v("company", c.company)
	v("role", c.role)
	v("city", c.city)
	v("kind", c.kinds)
	v("notes", c.notes)
	v("dossier_count", dossiers)
	v("created_at", c.created)
}

func (c *contact) set(key string, value any) error {
	switch key {
	case "full_name":
		return assign(&c.name, key, value)
	case "email":
		return assignNullable(&c.email, key, value)
	case "phone":
		return assignNullable(&c.phone, key, value)
	case "linkedin_url":
		return assignNullable(&c.linkedin, key, value)
	case "company":
		return assignNullable(&c.company, key, value)
	case "role":
		return assignNullable(&c.role, key, value)
	case "city":
		return assignNullable(&c.city, key, value)
	case "notes":
		return assignNullable(&c.notes, key, value)
	case "pool":
		if value == nil {
			value = ""
		}
		return assign(&c.pool, key, value)
	case "kind":
		kinds, ok := value.([]string)
		if !ok && value != nil {
			return fmt.Errorf("kind wants a []string, not %T", value)
		}
		c.kinds = slices.Clone(kinds)
		return nil
	}
	return fmt.Errorf("a contact has no field %q that can be set", key)
}

func (c *contact) same(e *contact) bool {
	return c.name == e.name && c.pool == e.pool && slices.Equal(c.kinds, e.kinds) &&
		equal(c.email, e.email) && equal(c.phone, e.phone) && equal(c.linkedin, e.linkedin) &&
		equal(c.company, e.company) && equal(c.role, e.role) && equal(c.city, e.city) && equal(c.notes, e.notes)
}

// link joins a dossier and a contact; full_name, email and company are read from the contact.
type link struct {
	dossierID, contactID string
	role                 string
	primary              bool
}

func (l *link) each(c *contact, v visit) {
	v("dossier_id", l.dossierID)
	v("contact_id", l.contactID)
	v("full_name", c.name)
	v("email", c.email)
	v("company", c.company)
	v("role_on_dossier", l.role)
	v("is_primary", l.primary)
}

type flow struct {
	id, name, typ string
	isDefault     bool
	stages        []stage // by position
}

func (f *flow) each(v visit) {
	v("id", f.id)
	v("name", f.name)
	v("type", f.typ)
	v("is_default", f.isDefault)
}

// stage returns the stage with that id, or nil.
func (f *flow) stage(id string) *stage {
	for i := range f.stages {
		if f.stages[i].id == id {
			return &f.stages[i]
		}
	}
	return nil
}

type stage struct {
	id, name       string
	position       int
	deadlineDays   *number
	winProbability *number // percent
	color          *string
}

func (s *stage) each(flowID string, v visit) {
	v("id", s.id)
	v("flow_id", flowID)
	v("name", s.name)
	v("position", s.position)
	v("deadline_days", s.deadlineDays)
	v("win_probability", s.winProbability)
	v("color", s.color)
}

type note struct {
	id, content string
	internal    bool
	created     instant
}

func (n *note) each(dossierID string, v visit) {
	v("id", n.id)
	if dossierID != "" {
		v("dossier_id", dossierID)
	}
	v("content", n.content)
	v("is_internal", n.internal)
	v("created_at", n.created)
}

func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func assign(to *string, key string, value any) error {
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("%s wants a string, not %T", key, value)
	}
	*to = text
	return nil
}

func assignNullable(to **string, key string, value any) error {
	if value == nil {
		*to = nil
		return nil
	}
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("%s wants a string or nil, not %T", key, value)
	}
	*to = &text
	return nil
}

func whole(n int) *number { text := number(strconv.Itoa(n)); return &text }

func assignNumber(to **number, key string, value any) error {
	var n number
	switch v := value.(type) {
	case nil:
		*to = nil
		return nil
	case json.Number:
		n = number(v)
	case int:
		n = number(strconv.Itoa(v))
	case float64:
		n = number(strconv.FormatFloat(v, 'f', -1, 64))
	default:
		return fmt.Errorf("%s wants a json.Number, an int, a float64 or nil, not %T", key, value)
	}
	if !json.Valid([]byte(n)) {
		return fmt.Errorf("%s: %q is not a JSON number", key, string(n))
	}
	*to = &n
	return nil
}
