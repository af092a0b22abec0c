package leadgridapi

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"time"
)

// Values LeadGrid documents for [Dossier] Type and Status, and for [Flow] Type.
// More may come.
const (
	TypeCandidate = "candidate"
	TypeSales     = "sales"

	StatusActive   = "active"
	StatusWon      = "won"
	StatusLost     = "lost"
	StatusArchived = "archived"
)

// A Dossier is a candidate or a sale on its way through the stages of a flow.
type Dossier struct {
	ID             string      `json:"id"`
	OrganizationID string      `json:"organization_id"`
	Type           string      `json:"type"`
	Name           string      `json:"name"`
	Email          string      `json:"email"`
	Phone          string      `json:"phone"`
	City           string      `json:"city"` // not in LeadGrid's reference, but in its own client
	Company        string      `json:"company"`
	Role           string      `json:"role"`
	ContactPerson  string      `json:"contact_person"` // sales only
	DealSize       json.Number `json:"deal_size"`      // sales only; in whole currency units
	DealCurrency   string      `json:"deal_currency"`  // sales only
	Status         string      `json:"status"`
	FlowID         string      `json:"flow_id"`
	CurrentStageID string      `json:"current_stage_id"`
	AssignedTo     string      `json:"assigned_to"` // a user's id
	IntakeNotes    string      `json:"intake_notes"`
	CVURL          string      `json:"cv_url"` // a storage path, not a link
	ContactID      string      `json:"contact_id"`
	CreatedAt      time.Time   `json:"created_at"`
	UpdatedAt      time.Time   `json:"updated_at"`

	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON decodes d as the package documentation says of objects.
func (d *Dossier) UnmarshalJSON(raw []byte) error { return decode(raw, d, &d.Raw) }

func (d Dossier) key() string { return keyOr(d.ID, d.Raw) }

// A DossierFilter narrows a list of dossiers. Its zero value asks for LeadGrid's
// default list; the reference does not say whether that includes archived ones.
type DossierFilter struct {
	Type    string
	Status  string
	StageID string
}

func (f DossierFilter) query() url.Values {
	return query("type", f.Type, "status", f.Status, "stage_id", f.StageID)
}

// ListDossiers returns one page of dossiers. Scope: dossiers:read.
func (c *Client) ListDossiers(ctx context.Context, f DossierFilter, p PageRequest) (Page[Dossier], error) {
	return list[Dossier](ctx, c, f.query(), p, "dossiers")
}

// Dossiers iterates over all dossiers that pass the filter. Scope: dossiers:read.
func (c *Client) Dossiers(ctx context.Context, f DossierFilter) iter.Seq2[Dossier, error] {
	return pages(func(p PageRequest) (Page[Dossier], error) { return c.ListDossiers(ctx, f, p) }, Dossier.key)
}

// Dossier returns one dossier. Scope: dossiers:read.
func (c *Client) Dossier(ctx context.Context, id string) (Dossier, error) {
	return one[Dossier](ctx, c, get("dossiers", id))
}

// A DossierInput is a new dossier. Empty fields are not sent.
type DossierInput struct {
	Type          string      `json:"type,omitempty"` // required
	Name          string      `json:"name,omitempty"` // required
	Email         string      `json:"email,omitempty"`
	Phone         string      `json:"phone,omitempty"`
	City          string      `json:"city,omitempty"`
	Company       string      `json:"company,omitempty"`
	Role          string      `json:"role,omitempty"`
	ContactID     string      `json:"contact_id,omitempty"` // an existing contact
	FlowID        string      `json:"flow_id,omitempty"`
	AssignedTo    string      `json:"assigned_to,omitempty"`
	IntakeNotes   string      `json:"intake_notes,omitempty"`
	ContactPerson string      `json:"contact_person,omitempty"` // sales only
	DealSize      json.Number `json:"deal_size,omitempty"`      // sales only; in whole currency units
	DealCurrency  string      `json:"deal_currency,omitempty"`  // sales only
}

// CreateDossier creates a dossier and, unless cv is nil, its CV in the same
// call: if LeadGrid refuses the CV, there is no dossier. Scope: dossiers:write.
//
// LeadGrid has no idempotency keys. After an error for which [Sent] is true and
// that is not an [*Error] below 500, the dossier may exist.
func (c *Client) CreateDossier(ctx context.Context, in DossierInput, cv *CV) (Dossier, error) {
	r := post(in, "dossiers")
	if cv != nil {
		r = r.withCV(*cv)
	}
	return one[Dossier](ctx, c, r)
}

// UpdateDossier changes the named fields of a dossier and returns the dossier in
// LeadGrid's answer. Changing current_stage_id moves the dossier within its flow;
// changing status restores an archived one. Scope: dossiers:write.
func (c *Client) UpdateDossier(ctx context.Context, id string, changes Changes) (Dossier, error) {
	return one[Dossier](ctx, c, patch(changes, "dossiers", id))
}

// ArchiveDossier sets a dossier's status to archived. UpdateDossier can bring it
// back. Scope: dossiers:write.
func (c *Client) ArchiveDossier(ctx context.Context, id string) error {
	return none(ctx, c, del("dossiers", id))
}
