package observe

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// NewNotes reads a dossier's notes from the page with the last known note on; LeadGrid lists the oldest first. It finds additions,
// but neither edits nor deletions. If that page does not continue what is known, or is the first one anyway, it reads all notes.
func (o *Observer) NewNotes(ctx context.Context, dossierID string, steps ...Step) (Result, error) {
	var known int
	err := o.mirror.Pool().QueryRow(ctx,
		`SELECT count(*) FROM notes WHERE dossier_id = $1 AND _deleted_at IS NULL`, dossierID).Scan(&known)
	if err != nil {
		return Result{}, fmt.Errorf("count the notes of dossier %s: %w", dossierID, err)
	}
	if known <= leadgridapi.MaxPerPage {
		return o.Notes(ctx, dossierID, steps...)
	}
	result, continues, err := o.tail(ctx, dossierID, known, steps)
	if err != nil || continues {
		return result, err
	}
	all, err := o.Notes(ctx, dossierID, steps...)
	all.Requests += result.Requests
	return all, err
}

// tail reads and applies the end of a list of notes. Continues says whether it goes on from what is known, and so was applied.
func (o *Observer) tail(ctx context.Context, dossierID string, known int, steps []Step) (result Result, continues bool, err error) {
	l := listOf(mappings.Notes, dossierID)
	l.from = (known-1)/leadgridapi.MaxPerPage + 1
	before := (l.from - 1) * leadgridapi.MaxPerPage
	read, err := o.readAll(ctx, l)
	result.Requests = max(1, len(read.Pages))
	if errors.Is(err, leadgridapi.ErrNotFound) {
		return result, false, nil // past the end, or the dossier is gone: reading all of it tells
	}
	if err != nil {
		return result, false, err
	}
	result.Objects = objectsOf(read.Complete)
	unknown, err := o.mirror.Unknown(ctx, mappings.Notes, result.Objects)
	if err != nil || len(read.seen)-len(unknown) != known-before {
		return result, false, err
	}
	whole := mirror.Read{
		Observation: read.First, Kind: l.kind, Endpoint: l.endpoint, Objects: result.Objects, Whole: true, Parent: dossierID,
	}
	result.Applied, err = o.Apply(ctx, whole, false, append(steps, func(tx pgx.Tx, _ mirror.Applied) error {
		return o.mirror.NoteRead(ctx, tx, mirror.LedgerTail, dossierID, read.First)
	})...)
	return result, true, err
}
