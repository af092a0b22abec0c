package observe

import (
	"context"
	"encoding/json"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// Listed is one page of a list, not yet applied: the sweep decides what it proves.
type Listed struct {
	At      mirror.Observation
	Objects []json.RawMessage
	Meta    leadgridapi.Meta
}

// ListDossiers reads one page of dossiers.
func (o *Observer) ListDossiers(ctx context.Context, f leadgridapi.DossierFilter, p leadgridapi.PageRequest) (Listed, error) {
	page, at, err := ask(ctx, o, "dossiers:read", func() (leadgridapi.Page[leadgridapi.Dossier], error) {
		return o.api.ListDossiers(ctx, f, p)
	})
	return Listed{at, raws(page.Items, func(d leadgridapi.Dossier) json.RawMessage { return d.Raw }), page.Meta}, err
}

// ListContacts reads one page of contacts.
func (o *Observer) ListContacts(ctx context.Context, f leadgridapi.ContactFilter, p leadgridapi.PageRequest) (Listed, error) {
	page, at, err := ask(ctx, o, "contacts:read", func() (leadgridapi.Page[leadgridapi.Contact], error) {
		return o.api.ListContacts(ctx, f, p)
	})
	return Listed{at, raws(page.Items, func(c leadgridapi.Contact) json.RawMessage { return c.Raw }), page.Meta}, err
}

// ListFlows reads one page of flows.
func (o *Observer) ListFlows(ctx context.Context, f leadgridapi.FlowFilter, p leadgridapi.PageRequest) (Listed, error) {
	page, at, err := ask(ctx, o, "flows:read", func() (leadgridapi.Page[leadgridapi.Flow], error) {
		return o.api.ListFlows(ctx, f, p)
	})
	return Listed{at, raws(page.Items, func(f leadgridapi.Flow) json.RawMessage { return f.Raw }), page.Meta}, err
}
