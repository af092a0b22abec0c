package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

const (
	// chunk is how many objects are read one by one between two saves of the progress.
	chunk = 64
	// readers is how many of them are read concurrently.
	readers = 8
	// provenTogether is how many new objects are read between two proofs of the organization; all are read again after a failure.
	provenTogether = 32
)

type reader func(ctx context.Context, id string, steps ...observe.Step) (observe.Result, error)

// mostFailures is how many objects of a chunk may stay unread because LeadGrid keeps failing on them. If there are more, LeadGrid
// itself is in trouble, and the sweep waits.
const mostFailures = 3

// read reads objects by id, several at once, and commits each on its own. It leaves out an object that LeadGrid fails to give,
// which the sweep reports at its end; any other error stops the rest.
//
// An object that the mirror holds and LeadGrid answers 404 for is asked for again between two proofs of the organization: if
// another organization is behind the key, if only for a moment, everything is missing.
func (w *Sweeper) read(ctx context.Context, s *Sweep, kind mappings.Kind, ids []string, read reader) error {
	missing, err := w.readOnce(ctx, s, kind, ids, read)
	if err != nil || len(missing) == 0 {
		return err
	}
	return w.bracketed(ctx, func() error {
		_, err := w.readOnce(ctx, s, kind, missing, read)
		return err
	})
}

// bracketed does something between two proofs that the key reads the mirrored organization.
func (w *Sweeper) bracketed(ctx context.Context, do func() error) error {
	if err := w.observer.Prove(ctx); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return w.observer.Prove(ctx)
}

// readOnce is read without asking again: it returns what was missing.
func (w *Sweeper) readOnce(ctx context.Context, s *Sweep, kind mappings.Kind, ids []string, read reader) (missing []string, err error) {
	results := make([]observe.Result, len(ids))
	failures := make([]error, len(ids))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	one := func(ctx context.Context, i int) (err error) {
		results[i], err = read(ctx, ids[i])
		if err != nil && leadgridapi.Temporary(err) {
			failures[i] = err
			return nil
		}
		return err
	}
	for i := range ids {
		if i == 0 {
			// Alone: it may be the probe of a refused scope, which must not be cut off by the others' waiting for it.
			if err := one(ctx, i); err != nil {
				return nil, err
			}
			continue
		}
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return groupCtx.Err()
			}
			return one(groupCtx, i)
		})
	}
	err = group.Wait()
	for i, result := range results {
		if result.NotFound {
			missing = append(missing, ids[i])
		}
		s.Requests += max(1, int64(result.Requests))
		s.RowsChanged += int64(result.Changed)
		s.RowsDeleted += int64(len(result.Deleted))
	}
	if err != nil {
		return nil, err
	}
	return missing, s.leaveOut(kind, ids, failures)
}

// leaveOut records the objects that could not be read, and fails if there are too many of them.
func (s *Sweep) leaveOut(kind mappings.Kind, ids []string, failures []error) error {
	var failed []string
	for i, err := range failures {
		if err != nil {
			failed = append(failed, failedRead(kind, ids[i]))
		}
	}
	if len(failed) > mostFailures {
		return errors.Join(failures...)
	}
	s.Progress.Failed = append(s.Progress.Failed, failed...)
	return nil
}

func failedRead(kind mappings.Kind, id string) string { return string(kind) + " " + id }

// readUnknown reads those objects on a thin list's page that the mirror does not know, since a row without half its fields must not
// be added. It must happen before the page counts as seen.
func (w *Sweeper) readUnknown(ctx context.Context, s *Sweep, kind mappings.Kind, objects []json.RawMessage) error {
	unknown, err := w.mirror.Unknown(ctx, kind, objects)
	if err != nil {
		return err
	}
	for ids := range slices.Chunk(unknown, provenTogether) {
		result, left, err := w.observer.Several(ctx, kind, ids)
		if err != nil {
			return err
		}
		s.Requests += int64(result.Requests)
		s.RowsChanged += int64(result.Changed)
		if err := w.read(ctx, s, kind, left, w.getter(kind)); err != nil {
			return err
		}
		if err := w.mirror.InTx(ctx, func(tx pgx.Tx) error { return w.save(ctx, tx, s) }); err != nil { // for others to see that it goes on
			return err
		}
	}
	return nil
}

func (w *Sweeper) getter(kind mappings.Kind) reader {
	switch kind {
	case mappings.Dossiers:
		return w.observer.Dossier
	case mappings.Contacts:
		return w.observer.Contact
	}
	return w.observer.Stages // a flow has no GET of its own
}

// due is a chunk of rows that have to be read one by one.
type due struct {
	ids  []string
	last string // the last row looked at
	more bool
}

// readDossiers reads every dossier one by one where the list hides fields.
func (w *Sweeper) readDossiers(ctx context.Context, s *Sweep) (bool, error) {
	return w.readThin(ctx, s, mappings.Dossiers)
}

func (w *Sweeper) readContacts(ctx context.Context, s *Sweep) (bool, error) {
	return w.readThin(ctx, s, mappings.Contacts)
}

func (w *Sweeper) readThin(ctx context.Context, s *Sweep, kind mappings.Kind) (bool, error) {
	if !slices.Contains(s.Progress.Thin, kind) {
		return true, nil
	}
	return w.readEach(ctx, s, kind, kind, string(kind), w.getter(kind))
}

func (w *Sweeper) readStages(ctx context.Context, s *Sweep) (bool, error) {
	if err := w.started(ctx, s, mappings.Stages); err != nil {
		return false, err
	}
	return w.readEach(ctx, s, mappings.Flows, mappings.Stages, mirror.LedgerKind(mappings.Stages), w.observer.Stages)
}

// readEach goes through the live rows of kind by, chunk by chunk in the order of their ids, and reads the row itself or its
// children, unless the ledger says that they were read since the sweep began. A 404 does not count as read: it may have come
// from another organization that was behind the key for a moment.
func (w *Sweeper) readEach(ctx context.Context, s *Sweep, by, kind mappings.Kind, ledger string, read reader) (over bool, err error) {
	next, err := w.due(ctx, s, by, ledger, chunk)
	if err != nil {
		return false, err
	}
	if err := w.read(ctx, s, kind, next.ids, read); err != nil {
		return false, err
	}
	s.Progress.After = next.last
	s.Progress.Done += len(next.ids)
	return !next.more, w.mirror.InTx(ctx, func(tx pgx.Tx) error { return w.save(ctx, tx, s) })
}

func (w *Sweeper) due(ctx context.Context, s *Sweep, kind mappings.Kind, ledger string, most int) (d due, err error) {
	if s.Progress.Total == 0 {
		err := w.pool.QueryRow(ctx, `SELECT count(*) FROM `+string(kind)+` WHERE _deleted_at IS NULL`).Scan(&s.Progress.Total)
		if err != nil {
			return d, fmt.Errorf("count %s: %w", kind, err)
		}
	}
	rows, err := w.pool.Query(ctx, `
		SELECT t.id, NOT EXISTS (
			SELECT FROM sync_reads r LEFT JOIN sync_reads missing
			  ON missing.kind = $5 AND missing.id = r.id AND missing.observation = r.observation
			WHERE r.kind = $3 AND r.id = t.id AND r.observation > $4 AND missing.id IS NULL)
		FROM (SELECT id FROM `+string(kind)+` WHERE _deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2) t ORDER BY t.id`,
		s.Progress.After, most, ledger, s.Progress.Began.Number, mirror.LedgerMissing(kind))
	if err != nil {
		return d, fmt.Errorf("look for unread %s: %w", kind, err)
	}
	var id string
	var unread bool
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &unread}, func() error {
		n++
		d.last = id
		if unread {
			d.ids = append(d.ids, id)
		}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("look for unread %s: %w", kind, err)
	}
	d.more = n == most
	return d, nil
}

// readLists reads links or notes: of every dossier in a full sweep, of those chosen in a scheduled one.
func (w *Sweeper) readLists(resource string) func(ctx context.Context, s *Sweep) (bool, error) {
	kind, read := mappings.Links, w.observer.Links
	if resource == "notes" {
		kind, read = mappings.Notes, w.observer.Notes
	}
	return func(ctx context.Context, s *Sweep) (bool, error) {
		if err := w.started(ctx, s, kind); err != nil {
			return false, err
		}
		if s.Kind == Full {
			return w.readStretch(ctx, s, kind)
		}
		return w.readChosen(ctx, s, kind, read)
	}
}

// until returns a WaitError if at is in the future.
func until(ctx context.Context, at time.Time) error {
	if wait := time.Until(at); wait > 0 {
		return &WaitError{Until: at}
	}
	return ctx.Err()
}
