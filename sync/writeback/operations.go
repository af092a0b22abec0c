package writeback

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Operation names what a command does, as the SQL function that writes it.
type Operation string

// The writing operations of LeadGrid's API.
const (
	CreateDossier  Operation = "create_dossier"
	UpdateDossier  Operation = "update_dossier"
	MoveDossier    Operation = "move_dossier"
	ArchiveDossier Operation = "archive_dossier"
	RestoreDossier Operation = "restore_dossier"
	UploadCV       Operation = "upload_cv"
	CreateContact  Operation = "create_contact"
	UpdateContact  Operation = "update_contact"
	DeleteContact  Operation = "delete_contact"
	LinkContact    Operation = "link_contact"
	UnlinkContact  Operation = "unlink_contact"
	AddNote        Operation = "add_note"
)

// Operations lists them all.
var Operations = []Operation{
	CreateDossier, UpdateDossier, MoveDossier, ArchiveDossier, RestoreDossier, UploadCV,
	CreateContact, UpdateContact, DeleteContact, LinkContact, UnlinkContact, AddNote,
}

// creates are the operations that would do something else the second time. All others may be repeated: they end in the
// same state.
var creates = []Operation{CreateDossier, CreateContact, AddNote}

// makes says what kind of thing later commands can name by the id of a command of this operation.
func (o Operation) makes() (kind string, ok bool) {
	switch o {
	case CreateDossier:
		return "dossier", true
	case CreateContact:
		return "contact", true
	}
	return "", false
}

// kind is what LeadGrid answers with.
func (o Operation) kind() mappings.Kind {
	switch o {
	case CreateContact, UpdateContact, DeleteContact:
		return mappings.Contacts
	case LinkContact, UnlinkContact:
		return mappings.Links
	case AddNote:
		return mappings.Notes
	}
	return mappings.Dossiers
}

// scopes are what LeadGrid's reference demands of the key.
func (o Operation) scopes() []string {
	switch o.kind() {
	case mappings.Contacts:
		return []string{"contacts:write"}
	case mappings.Links:
		return []string{"contacts:write", "dossiers:write"}
	case mappings.Notes:
		return []string{"notes:write"}
	}
	return []string{"dossiers:write"}
}

// send makes the one request that carries the command out, and returns the object LeadGrid answers with, nil for none.
func (r *Runner) send(ctx context.Context, c *Command) (json.RawMessage, error) {
	switch c.Operation {
	case CreateDossier:
		if c.LeadGridID != nil { // made without its CV
			return r.sendCV(ctx, c)
		}
		return r.createDossier(ctx, c)
	case UpdateDossier, MoveDossier, RestoreDossier:
		dossier, err := r.api.UpdateDossier(ctx, c.dossier(), changes(c))
		return dossier.Raw, err
	case ArchiveDossier:
		return nil, r.api.ArchiveDossier(ctx, c.dossier())
	case UploadCV:
		return r.sendCV(ctx, c)
	case CreateContact:
		var in leadgridapi.ContactInput
		if err := json.Unmarshal(c.Arguments, &in); err != nil {
			return nil, badArguments(err)
		}
		contact, err := r.api.CreateContact(ctx, in)
		return contact.Raw, err
	case UpdateContact:
		contact, err := r.api.UpdateContact(ctx, c.contact(), changes(c))
		return contact.Raw, err
	case DeleteContact:
		return nil, r.api.DeleteContact(ctx, c.contact())
	case LinkContact:
		in := leadgridapi.LinkInput{ContactID: c.contact()}
		if err := json.Unmarshal(c.Arguments, &in); err != nil {
			return nil, badArguments(err)
		}
		link, err := r.api.LinkContact(ctx, c.dossier(), in)
		return adopt(link.Raw, "dossier_id", c.dossier(), "contact_id", c.contact()), err
	case UnlinkContact:
		return nil, r.api.UnlinkContact(ctx, c.dossier(), c.contact())
	case AddNote:
		var in leadgridapi.NoteInput
		if err := json.Unmarshal(c.Arguments, &in); err != nil {
			return nil, badArguments(err)
		}
		note, err := r.api.AddNote(ctx, c.dossier(), in)
		return adopt(note.Raw, "dossier_id", c.dossier()), err
	}
	return nil, badArguments(fmt.Errorf("no operation is called %s", c.Operation))
}

func (r *Runner) createDossier(ctx context.Context, c *Command) (json.RawMessage, error) {
	var in leadgridapi.DossierInput
	if err := json.Unmarshal(c.Arguments, &in); err != nil {
		return nil, badArguments(err)
	}
	in.ContactID = deref(c.ContactID)
	var cv *leadgridapi.CV
	if c.HasCV {
		data, err := r.store.cv(ctx, c)
		if err != nil {
			return nil, err
		}
		cv = &leadgridapi.CV{Filename: deref(c.CVFilename), Data: data}
	}
	dossier, err := r.api.CreateDossier(ctx, in, cv)
	return dossier.Raw, err
}

func (r *Runner) sendCV(ctx context.Context, c *Command) (json.RawMessage, error) {
	data, err := r.store.cv(ctx, c)
	if err != nil {
		return nil, err
	}
	dossier, err := r.api.UploadCV(ctx, c.dossier(), leadgridapi.CV{Filename: deref(c.CVFilename), Data: data})
	if err != nil || dossier.ID != c.dossier() {
		return nil, err // an answer that is no dossier: LeadGrid does not document it
	}
	return dossier.Raw, nil
}

func changes(c *Command) leadgridapi.Changes {
	changes := leadgridapi.Changes{}
	for field, value := range c.fields() {
		changes[field] = value
	}
	return changes
}

// badArguments is for what the SQL functions never write.
func badArguments(err error) error {
	return fmt.Errorf("%w: %w", leadgridapi.ErrInvalidInput, err)
}

// adopt fills in ids that LeadGrid's answer leaves out, since the request's path named them.
func adopt(object json.RawMessage, namesAndIDs ...string) json.RawMessage {
	var fields mappings.Object
	if json.Unmarshal(object, &fields) != nil || fields == nil {
		return object
	}
	missing := false
	for i := 0; i < len(namesAndIDs); i += 2 {
		if value, ok := fields[namesAndIDs[i]]; !ok || string(value) == "null" {
			fields[namesAndIDs[i]] = quoted(namesAndIDs[i+1])
			missing = true
		}
	}
	if !missing {
		return object
	}
	filled, err := json.Marshal(fields)
	if err != nil {
		return object
	}
	return filled
}
