package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// readers is how many dossiers of one flush are read side by side.
const readers = 8

// Processor reads what events point to. An event is a hint to read, never data (promise 3); only the stage and the time
// of a stage_changed event go to the stage history.
type Processor struct {
	observer *observe.Observer
	mirror   *mirror.Mirror
	fatal    func(error) bool // an error that every other dossier of the flush would meet as well
}

// NewProcessor returns a Processor. Where fatal reports true of an error, the rest of a flush is left for later.
func NewProcessor(observer *observe.Observer, fatal func(error) bool) *Processor {
	return &Processor{observer: observer, mirror: observer.Mirror(), fatal: fatal}
}

// seenFunc reports whether an object, as the ledger names it, has been read recently enough.
type seenFunc func(ctx context.Context, kind, id string) (bool, error)

// hint is what a flush's events say about one dossier.
type hint struct {
	DossierID string
	Notes     bool // a note was added
}

// Report says what processing a flush did.
type Report struct {
	Dossiers int // that its events named
	Read     int // that had to be read
	Changed  int // rows written
}

// Process reads every dossier that the flush's events name and that no read begun since has told about; since the flush, or
// the replay that asks for it again. It may be called
// again after an error: what has been read is not read again. Then, inside the transaction that marks the flush as
// processed, it calls done.
func (p *Processor) Process(ctx context.Context, args FlushArgs, done func(tx pgx.Tx, receivedAt time.Time) error) (Report, error) {
	flush, since := args.Flush, max(args.Flush, args.After)
	receivedAt, err := p.recordStages(ctx, flush)
	if err != nil {
		return Report{}, err
	}
	report, err := p.readAll(ctx, flush, func(ctx context.Context, kind, id string) (bool, error) {
		last, err := p.mirror.LastRead(ctx, kind, id)
		return last.Number > since, err
	})
	if err != nil {
		return report, err
	}
	return report, p.mirror.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE sync_flushes SET done_at = now() WHERE flush = $1 AND done_at IS NULL`, flush)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return done(tx, receivedAt)
	})
}

// Recheck reads again, once no replica of LeadGrid can be behind the events any more, what Process read.
func (p *Processor) Recheck(ctx context.Context, flush int64) (Report, error) {
	var receivedAt time.Time
	err := p.mirror.Pool().QueryRow(ctx, `SELECT received_at FROM sync_flushes WHERE flush = $1`, flush).Scan(&receivedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Report{}, nil
	}
	if err != nil {
		return Report{}, fmt.Errorf("load flush %d: %w", flush, err)
	}
	settled := receivedAt.Add(p.mirror.Lag())
	return p.readAll(ctx, flush, func(ctx context.Context, kind, id string) (bool, error) {
		last, err := p.mirror.LastRead(ctx, kind, id)
		return !last.BeganAt.Before(settled), err
	})
}

// recordStages puts the flush's stage_changed events into the history.
func (p *Processor) recordStages(ctx context.Context, flush int64) (receivedAt time.Time, err error) {
	pool := p.mirror.Pool()
	err = pool.QueryRow(ctx, `SELECT received_at FROM sync_flushes WHERE flush = $1`, flush).Scan(&receivedAt)
	if err != nil {
		return receivedAt, fmt.Errorf("load flush %d: %w", flush, err)
	}
	rows, err := pool.Query(ctx, `
		SELECT id, dossier_id, stage_id, created_at FROM webhook_events
		WHERE flush = $1 AND type = 'dossier.stage_changed'
		  AND dossier_id IS NOT NULL AND stage_id IS NOT NULL AND created_at IS NOT NULL
		ORDER BY created_at, id`, flush)
	if err != nil {
		return receivedAt, fmt.Errorf("load stages of flush %d: %w", flush, err)
	}
	entered, err := pgx.CollectRows(rows, pgx.RowToStructByPos[mirror.StageEntered])
	if err != nil {
		return receivedAt, fmt.Errorf("load stages of flush %d: %w", flush, err)
	}
	if len(entered) == 0 {
		return receivedAt, nil
	}
	return receivedAt, p.mirror.InTx(ctx, func(tx pgx.Tx) error { return p.mirror.RecordStages(ctx, tx, entered) })
}

// readAll reads the dossiers that the flush names, several at once, each on its own: one that fails does not keep the
// others from being read.
func (p *Processor) readAll(ctx context.Context, flush int64, seen seenFunc) (Report, error) {
	rows, err := p.mirror.Pool().Query(ctx, `
		SELECT dossier_id, bool_or(type = 'note.created') FROM webhook_events
		WHERE flush = $1 AND dossier_id IS NOT NULL
		GROUP BY dossier_id ORDER BY min(received_at), dossier_id`, flush)
	if err != nil {
		return Report{}, fmt.Errorf("load flush %d: %w", flush, err)
	}
	hints, err := pgx.CollectRows(rows, pgx.RowToStructByPos[hint])
	if err != nil {
		return Report{}, fmt.Errorf("load flush %d: %w", flush, err)
	}
	report := Report{Dossiers: len(hints)}
	results := make([]Report, len(hints))
	failures := make([]error, len(hints))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i, hint := range hints {
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return groupCtx.Err()
			}
			results[i], failures[i] = p.read(groupCtx, flush, hint, seen)
			if failures[i] != nil && p.fatal(failures[i]) {
				return failures[i] // which cancels the rest
			}
			return nil
		})
	}
	fatal := group.Wait()
	for _, r := range results {
		report.Read += r.Read
		report.Changed += r.Changed
	}
	if fatal != nil {
		return report, fatal
	}
	return report, errors.Join(failures...)
}

// read brings one dossier up to date: the dossier itself; its notes if one was added; and, where they have never been
// read, its notes and links.
func (p *Processor) read(ctx context.Context, flush int64, hint hint, seen seenFunc) (report Report, err error) {
	done, err := seen(ctx, string(mappings.Dossiers), hint.DossierID)
	if err != nil {
		return report, err
	}
	if !done {
		report.Read++
		result, err := p.observer.Dossier(ctx, hint.DossierID)
		if err != nil {
			return report, err
		}
		if len(result.Older) > 0 {
			return report, &LaggingError{DossierID: hint.DossierID}
		}
		report.Changed += result.Changed
		if result.NotFound {
			return report, nil
		}
	}
	for _, list := range []struct {
		kind   mappings.Kind
		wanted bool
		read   func(context.Context, string, ...observe.Step) (observe.Result, error)
	}{
		{mappings.Notes, hint.Notes, p.observer.Notes},
		{mappings.Links, false, p.observer.Links},
	} {
		ledger := mirror.LedgerKind(list.kind)
		done, err := seen(ctx, ledger, hint.DossierID)
		if err != nil {
			return report, err
		}
		if done {
			continue
		}
		if !list.wanted {
			// Read since the flush, but not late enough: for a new dossier, which is read once more. Read before: known.
			last, err := p.mirror.LastRead(ctx, ledger, hint.DossierID)
			if err != nil {
				return report, err
			}
			if last.Number > 0 && last.Number <= flush {
				continue
			}
		}
		report.Read++
		result, err := list.read(ctx, hint.DossierID)
		if scopeMissing(err) {
			continue // the dossier is mirrored; what the key may not read is reported by the gate
		}
		if err != nil {
			return report, err
		}
		report.Changed += result.Changed
	}
	return report, nil
}

// LaggingError says that LeadGrid showed a dossier older than it is known: a replica that lags. It is read again.
type LaggingError struct{ DossierID string }

func (e *LaggingError) Error() string {
	return fmt.Sprintf("LeadGrid showed dossier %s older than it is known; it will be read again", e.DossierID)
}

// RecheckArgs asks for what a flush's events pointed to to be read once more, when replicas have caught up.
type RecheckArgs struct {
	Flush int64 `json:"flush"`
}

// Kind is stored with every job: it never changes.
func (RecheckArgs) Kind() string { return "leadgrid_recheck" }

func scopeMissing(err error) bool {
	pause, ok := errors.AsType[*access.PausedError](err)
	return ok && pause.Scope != access.Everything || errors.Is(err, leadgridapi.ErrForbidden)
}
