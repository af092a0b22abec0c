package observe

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// List is everything a dossier holds of one kind, read but not applied.
type List struct {
	Result // a 404, or how many requests it took
	read   mirror.Complete
}

// ReadList reads the links or notes of a dossier for ApplyStretch. Of a dossier that is gone it notes so at once.
func (o *Observer) ReadList(ctx context.Context, kind mappings.Kind, dossierID string) (List, error) {
	many := *o
	many.many = true
	read, result, err := many.readUntilSure(ctx, listOf(kind, dossierID))
	for i := range read.Pages {
		read.Pages[i] = o.mirror.Prepare(read.Pages[i])
	}
	return List{Result: result, read: read}, err
}

// ApplyStretch hands the lists of a stretch to the mirror together with the steps they complete. Where nothing shows that they
// came from the mirrored organization, nothing is written, and mirror.ErrUnproven returned: they are to be read again one by
// one.
func (o *Observer) ApplyStretch(
	ctx context.Context, kind mappings.Kind, lists []List, stretch mirror.Stretch, steps ...Step,
) (mirror.Applied, error) {
	var reads []mirror.Complete
	for _, list := range lists {
		if !list.NotFound {
			reads = append(reads, list.read)
		}
	}
	return o.proven(ctx, kind, false, func(bool) (applied mirror.Applied, err error) {
		err = o.mirror.InTx(ctx, func(tx pgx.Tx) error {
			if applied, err = o.mirror.ApplyStretch(ctx, tx, kind, reads, stretch); err != nil {
				return err
			}
			return runSteps(tx, applied, steps)
		})
		return applied, err
	})
}

// ApplyLists hands lists to the mirror that are no part of a stretch, each with its own place in the ledger.
func (o *Observer) ApplyLists(ctx context.Context, lists []List, steps ...Step) error {
	for _, list := range lists {
		if list.NotFound {
			continue
		}
		_, err := o.applyComplete(ctx, list.read, false, steps)
		if err != nil && !errors.Is(err, mirror.ErrUnproven) {
			return err
		}
	}
	return nil
}
