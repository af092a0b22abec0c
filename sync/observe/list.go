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
	page, at, err := ask(ctx, o, "dossiers:read", func() (leadgridapi.Page[json.RawMessage], error) {
		return o.api.ListRawDossiers(ctx, f, p)
	})
	return Listed{at, page.Items, page.Meta}, err
}

// ListContacts reads one page of contacts.
func (o *Observer) ListContacts(ctx context.Context, f leadgridapi.ContactFilter, p leadgridapi.PageRequest) (Listed, error) {
	page, at, err := ask(ctx, o, "contacts:read", func() (leadgridapi.Page[json.RawMessage], error) {
		return o.api.ListRawContacts(ctx, f, p)
	})
	return Listed{at, page.Items, page.Meta}, err
}

// ListFlows reads one page of flows.
func (o *Observer) ListFlows(ctx context.Context, f leadgridapi.FlowFilter, p leadgridapi.PageRequest) (Listed, error) {
	page, at, err := ask(ctx, o, "flows:read", func() (leadgridapi.Page[json.RawMessage], error) {
		return o.api.ListRawFlows(ctx, f, p)
	})
	return Listed{at, page.Items, page.Meta}, err
}
