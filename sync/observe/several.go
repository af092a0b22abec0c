package observe

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// readers is how many objects Several asks for side by side.
const readers = 8

// Several reads objects of one kind, each by its id, and applies them together: nothing in a contact shows whose it is, and so two
// proofs of the organization, one before the first read and one after the last, stand for all. It returns the ids that have to be
// read on their own: LeadGrid said 404, failed, or showed them in a list meanwhile.
func (o *Observer) Several(ctx context.Context, kind mappings.Kind, ids []string) (result Result, left []string, err error) {
	if err := o.Prove(ctx); err != nil {
		return result, nil, err
	}
	answers := make([]mirror.Read, len(ids))
	one := func(ctx context.Context, i int) error {
		read, err := o.get(ctx, kind, ids[i])
		if errors.Is(err, leadgridapi.ErrNotFound) || err != nil && leadgridapi.Temporary(err) {
			return nil
		}
		answers[i] = read
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i := range ids {
		if i == 0 { // alone: it may be the probe of a refused scope, which must not be cut off by the others' waiting for it
			if err := one(ctx, i); err != nil {
				return result, nil, err
			}
			continue
		}
		group.Go(func() error { return one(groupCtx, i) })
	}
	if err := group.Wait(); err != nil {
		return result, nil, err
	}
	result.Requests = len(ids)
	var reads []mirror.Read
	var read []string // their ids
	for i, answer := range answers {
		if answer.Objects == nil {
			left = append(left, ids[i])
			continue
		}
		reads, read = append(reads, answer), append(read, ids[i])
	}
	if len(reads) == 0 {
		return result, left, nil
	}
	var each []mirror.Applied
	err = o.ApplyPages(ctx, reads, true, func(_ pgx.Tx, applied []mirror.Applied) error {
		each = applied
		return nil
	})
	for i, applied := range each {
		result.Applied.Add(applied)
		if applied.Overtaken {
			left = append(left, read[i])
		}
	}
	return result, left, err
}
