package writeback

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Operation is what a command does, named like the SQL function that writes it.
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

// creates are the operations that would make a second object if repeated. All others end in the same state however often they
// run.
var creates = []Operation{CreateDossier, CreateContact, AddNote}

// makes returns what a command of this operation makes, if later commands can name that by the command's id.
func (o Operation) makes() (kind string, ok bool) {
	switch o {
	case CreateDossier:
		return "dossier", true
	case CreateContact:
		return "contact", true
	}
	return "", false
}

// kind is the kind of object that LeadGrid answers with.
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

// scopes are the scopes that LeadGrid's reference demands of the key.
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

// send makes the one request that carries out the command, and returns the object in LeadGrid's answer, nil if there is none.
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
		return nil, err // LeadGrid does not document the answer, and this one is not the dossier
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

// badArguments is the error for arguments that the SQL functions never write.
func badArguments(err error) error {
	return fmt.Errorf("%w: %w", leadgridapi.ErrInvalidInput, err)
}

// adopt fills in ids that LeadGrid's answer leaves out and that the request's path named.
func adopt(object json.RawMessage, namesAndIDs ...string) json.RawMessage {
	fields := objectOf(object)
	for pair := range slices.Chunk(namesAndIDs, 2) {
		if value := fields[pair[0]]; fields != nil && (value == nil || string(value) == "null") {
			object = mappings.With(object, pair[0], pair[1])
		}
	}
	return object
}
