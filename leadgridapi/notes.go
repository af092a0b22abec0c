package leadgridapi

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// A Note is a remark on a dossier.
type Note struct {
	ID         string    `json:"id"`
	DossierID  string    `json:"dossier_id"`
	Content    string    `json:"content"`
	IsInternal bool      `json:"is_internal"`
	CreatedAt  time.Time `json:"created_at"`

	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON decodes n as the package documentation says of objects.
func (n *Note) UnmarshalJSON(raw []byte) error { return decode(raw, n, &n.Raw) }

func (n Note) key() string { return keyOr(n.ID, n.Raw) }

// ListNotes returns one page of a dossier's notes, oldest first.
// Scope: notes:read.
func (c *Client) ListNotes(ctx context.Context, dossierID string, p PageRequest) (Page[Note], error) {
	return list[Note](ctx, c, nil, p, "dossiers", dossierID, "notes")
}

// Notes iterates over all notes of a dossier, oldest first. Scope: notes:read.
func (c *Client) Notes(ctx context.Context, dossierID string) iter.Seq2[Note, error] {
	return pages(func(p PageRequest) (Page[Note], error) { return c.ListNotes(ctx, dossierID, p) }, Note.key)
}

// A NoteInput is a new note.
type NoteInput struct {
	Content    string `json:"content"`               // not empty
	IsInternal *bool  `json:"is_internal,omitempty"` // nil for LeadGrid's default, true
}

// AddNote adds a note to a dossier. Scope: notes:write.
func (c *Client) AddNote(ctx context.Context, dossierID string, in NoteInput) (Note, error) {
	return one[Note](ctx, c, post(in, "dossiers", dossierID, "notes"))
}
