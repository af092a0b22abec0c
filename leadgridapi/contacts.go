package leadgridapi

import (
	"context"
	"encoding/json"
	"iter"
	"net/url"
	"slices"
	"time"
)

// Values LeadGrid documents for a [Contact]'s Kind and for a [ContactFilter]'s
// Pool. More may come.
const (
	KindCandidate = "candidate"
	KindProspect  = "prospect"
	KindClient    = "client"
	KindSupplier  = "supplier"
	KindPartner   = "partner"

	PoolIn      = "in_pool"
	PoolExpired = "expired"
)

// A Contact is a person the organization knows.
type Contact struct {
	ID           string    `json:"id"`
	FullName     string    `json:"full_name"`
	Email        string    `json:"email"`
	Phone        string    `json:"phone"`
	LinkedInURL  string    `json:"linkedin_url"`
	Company      string    `json:"company"`
	Role         string    `json:"role"`
	City         string    `json:"city"`
	Kind         []string  `json:"kind"`
	Notes        string    `json:"notes"`
	DossierCount int       `json:"dossier_count"`
	CreatedAt    time.Time `json:"created_at"`

	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON decodes c as the package documentation says of objects.
func (c *Contact) UnmarshalJSON(raw []byte) error { return decode(raw, c, &c.Raw) }

func (c Contact) key() string { return keyOr(c.ID, c.Raw) }

// A ContactFilter narrows a list of contacts.
type ContactFilter struct {
	Kinds  []string
	Pool   string // the talent pool: [PoolIn] or [PoolExpired]
	Search string // looked for in full_name, email, company and role
}

func (f ContactFilter) query() url.Values {
	q := query("pool", f.Pool, "search", f.Search)
	for _, kind := range f.Kinds {
		q.Add("kind", kind)
	}
	return q
}

// ListContacts returns one page of contacts. Scope: contacts:read.
func (c *Client) ListContacts(ctx context.Context, f ContactFilter, p PageRequest) (Page[Contact], error) {
	return list[Contact](ctx, c, f.query(), p, "contacts")
}

// Contacts iterates over all contacts that pass the filter. Scope: contacts:read.
func (c *Client) Contacts(ctx context.Context, f ContactFilter) iter.Seq2[Contact, error] {
	f.Kinds = slices.Clone(f.Kinds)
	return pages(func(p PageRequest) (Page[Contact], error) { return c.ListContacts(ctx, f, p) }, Contact.key)
}

// Contact returns one contact. Scope: contacts:read.
func (c *Client) Contact(ctx context.Context, id string) (Contact, error) {
	return one[Contact](ctx, c, get("contacts", id))
}

// A ContactInput is a new contact. Empty fields are not sent.
type ContactInput struct {
	FullName    string   `json:"full_name,omitempty"` // required
	Email       string   `json:"email,omitempty"`
	Phone       string   `json:"phone,omitempty"`
	LinkedInURL string   `json:"linkedin_url,omitempty"`
	Company     string   `json:"company,omitempty"`
	Role        string   `json:"role,omitempty"`
	City        string   `json:"city,omitempty"`
	Kind        []string `json:"kind,omitempty"`
	Notes       string   `json:"notes,omitempty"`
}

// CreateContact creates a contact. If another contact has the same e-mail, in
// any case, it fails with [ErrDuplicateContact]. Scope: contacts:write.
func (c *Client) CreateContact(ctx context.Context, in ContactInput) (Contact, error) {
	return one[Contact](ctx, c, post(in, "contacts"))
}

// UpdateContact changes the named fields of a contact and returns the contact in
// LeadGrid's answer. A new kind replaces the whole set. Scope: contacts:write.
func (c *Client) UpdateContact(ctx context.Context, id string, changes Changes) (Contact, error) {
	return one[Contact](ctx, c, patch(changes, "contacts", id))
}

// DeleteContact deletes a contact for good, with its links; the dossiers stay.
// Scope: contacts:write.
func (c *Client) DeleteContact(ctx context.Context, id string) error {
	return none(ctx, c, del("contacts", id))
}
