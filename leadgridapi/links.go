package leadgridapi

import (
	"context"
	"encoding/json"
	"iter"
)

// Values LeadGrid documents for a [Link]'s RoleOnDossier. More may come.
const (
	RolePrimary       = "primary"
	RoleHiringManager = "hiring_manager"
	RoleDecisionMaker = "decision_maker"
	RoleChampion      = "champion"
	RoleGatekeeper    = "gatekeeper"
	RoleIntroducer    = "introducer"
	RoleOther         = "other"
)

// A Link ties a contact to a dossier.
type Link struct {
	DossierID     string `json:"dossier_id"`
	ContactID     string `json:"contact_id"`
	FullName      string `json:"full_name"`
	Email         string `json:"email"`
	Company       string `json:"company"`
	RoleOnDossier string `json:"role_on_dossier"`
	IsPrimary     bool   `json:"is_primary"`

	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON decodes l as the package documentation says of objects.
func (l *Link) UnmarshalJSON(raw []byte) error { return decode(raw, l, &l.Raw) }

func (l Link) key() string { return keyOr(l.ContactID, l.Raw) }

// ListLinks returns one page of a dossier's links. Scope: contacts:read.
func (c *Client) ListLinks(ctx context.Context, dossierID string, p PageRequest) (Page[Link], error) {
	return list[Link](ctx, c, nil, p, "dossiers", dossierID, "contacts")
}

// Links iterates over all links of a dossier. Scope: contacts:read.
func (c *Client) Links(ctx context.Context, dossierID string) iter.Seq2[Link, error] {
	return pages(func(p PageRequest) (Page[Link], error) { return c.ListLinks(ctx, dossierID, p) }, Link.key)
}

// A LinkInput is a new link.
type LinkInput struct {
	ContactID     string `json:"contact_id"`
	RoleOnDossier string `json:"role_on_dossier"`
	IsPrimary     bool   `json:"is_primary,omitempty"` // demotes the present primary contact
}

// LinkContact ties a contact to a dossier. Scopes: contacts:write and
// dossiers:write.
func (c *Client) LinkContact(ctx context.Context, dossierID string, in LinkInput) (Link, error) {
	return one[Link](ctx, c, post(in, "dossiers", dossierID, "contacts"))
}

// UnlinkContact takes a contact off a dossier; both stay. Scopes: contacts:write
// and dossiers:write.
func (c *Client) UnlinkContact(ctx context.Context, dossierID, contactID string) error {
	return none(ctx, c, del("dossiers", dossierID, "contacts", contactID))
}
