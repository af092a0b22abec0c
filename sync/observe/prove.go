package observe

import (
	"context"
	"errors"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// Prove checks that the key reads the mirrored organization: it asks LeadGrid for objects that the mirror knows, until it gets
// one. Single objects may have been deleted, so only if LeadGrid has none of several, and no list shares an object with the
// mirror, is it another organization. Prove then closes the gate and returns mirror.ErrOtherOrganization. If the mirror has no
// rows, any organization is accepted.
func (o *Observer) Prove(ctx context.Context) error {
	witnesses, err := o.mirror.Witnesses(ctx)
	if err != nil || len(witnesses) == 0 {
		return err
	}
	return o.answers(ctx, witnesses)
}

// Answers is Prove before a deletion: if no row is left that could prove anything, it returns mirror.ErrUnproven.
func (o *Observer) Answers(ctx context.Context) error {
	witnesses, err := o.mirror.Witnesses(ctx)
	if err != nil {
		return err
	}
	if len(witnesses) == 0 {
		return mirror.ErrUnproven
	}
	return o.answers(ctx, witnesses)
}

func (o *Observer) answers(ctx context.Context, witnesses []mirror.Witness) error {
	proving := *o
	proving.proof = true
	o = &proving
	for _, witness := range witnesses {
		found, err := o.witnessed(ctx, witness)
		if err != nil {
			return err
		}
		if found {
			return o.gate.Proven(ctx)
		}
	}
	shared, err := o.listsShare(ctx)
	if err != nil {
		return err
	}
	if shared {
		return o.gate.Proven(ctx)
	}
	return errors.Join(mirror.ErrOtherOrganization, o.gate.Foreign(ctx))
}

// witnessed asks for one known object.
func (o *Observer) witnessed(ctx context.Context, witness mirror.Witness) (bool, error) {
	var result Result
	var err error
	switch witness.Kind {
	case mappings.Dossiers:
		result, err = o.Dossier(ctx, witness.ID)
	case mappings.Contacts:
		result, err = o.Contact(ctx, witness.ID)
	case mappings.Flows:
		result, err = o.Stages(ctx, witness.ID)
	}
	return err == nil && !result.NotFound, err
}

// listsShare reads one page of each list and reports whether any shows an object that the mirror knows.
func (o *Observer) listsShare(ctx context.Context) (bool, error) {
	first := leadgridapi.PageRequest{Page: 1, PerPage: leadgridapi.MaxPerPage}
	for kind, list := range map[mappings.Kind]func() (Listed, error){
		mappings.Dossiers: func() (Listed, error) { return o.ListDossiers(ctx, leadgridapi.DossierFilter{}, first) },
		mappings.Contacts: func() (Listed, error) { return o.ListContacts(ctx, leadgridapi.ContactFilter{}, first) },
		mappings.Flows:    func() (Listed, error) { return o.ListFlows(ctx, leadgridapi.FlowFilter{}, first) },
	} {
		listed, err := list()
		if err != nil {
			return false, err
		}
		knows, err := o.mirror.Knows(ctx, kind, listed.Objects)
		if err != nil || knows {
			return knows, err
		}
	}
	return false, nil
}
