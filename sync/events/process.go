package events

import (
	"cmp"
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

// readers is how many dossiers of a flush are read concurrently.
const readers = 8

// Processor reads what events name. An event is a hint to read, never data (promise 3); only stage and time of a stage_changed
// event go into the stage history.
type Processor struct {
	observer *observe.Observer
	mirror   *mirror.Mirror
	fatal    func(error) bool // reports an error that every other dossier of the flush would also meet
}

// NewProcessor returns a Processor. On an error for which fatal reports true, it leaves the rest of the flush for later.
func NewProcessor(observer *observe.Observer, fatal func(error) bool) *Processor {
	return &Processor{observer: observer, mirror: observer.Mirror(), fatal: fatal}
}

// seenFunc reports whether an object, as the ledger names it, has been read recently enough.
type seenFunc func(ctx context.Context, kind, id string) (bool, error)

// hint sums up what a flush's events say about one dossier.
type hint struct {
	DossierID string
	Notes     bool // a note was added
}

// Report says what processing a flush did.
type Report struct {
	Flush      int64
	ReceivedAt time.Time
	Dossiers   int        // dossiers that its events name
	Read       int        // reads that were necessary
	Changed    int        // rows written
	Unread     []ListArgs // lists that the key may not read
}

// Process reads every dossier that the flush's events name, unless a read that began after the flush (or after the replay that
// asks for it again) has already covered it. It then calls done in the transaction that marks the flush as processed. After an
// error it may be called again, and does not repeat finished reads.
func (p *Processor) Process(ctx context.Context, args FlushArgs, done func(tx pgx.Tx, report Report) error) (Report, error) {
	flush, receivedAt, err := p.find(ctx, args)
	if err != nil {
		return Report{}, err
	}
	if err := p.recordStages(ctx, flush); err != nil {
		return Report{Flush: flush}, err
	}
	since := max(flush, args.After)
	report, err := p.readAll(ctx, flush, func(ctx context.Context, kind, id string) (bool, error) {
		last, err := p.mirror.LastRead(ctx, kind, id)
		return last.Number > since, err
	})
	report.ReceivedAt = receivedAt
	if err != nil {
		return report, err
	}
	return report, p.mirror.InTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE sync_flushes SET done_at = now() WHERE flush = $1 AND done_at IS NULL`, flush)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if err := p.settleStages(ctx, tx, flush); err != nil {
			return err
		}
		return done(tx, report)
	})
}

// Recheck repeats what Process read, at a time when no replica of LeadGrid can still lag behind the events.
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
	report, err := p.readAll(ctx, flush, func(ctx context.Context, kind, id string) (bool, error) {
		last, err := p.mirror.LastRead(ctx, kind, id)
		return !last.BeganAt.Before(settled), err
	})
	if err != nil {
		return report, err
	}
	return report, p.mirror.InTx(ctx, func(tx pgx.Tx) error { return p.settleStages(ctx, tx, flush) })
}

// settleStages makes the histories of the dossiers that the flush's stage_changed events name end with their stage.
func (p *Processor) settleStages(ctx context.Context, tx pgx.Tx, flush int64) error {
	rows, err := tx.Query(ctx, `
		SELECT DISTINCT dossier_id FROM webhook_events
		WHERE flush = $1 AND type = 'dossier.stage_changed' AND dossier_id IS NOT NULL`, flush)
	if err != nil {
		return fmt.Errorf("load stages of flush %d: %w", flush, err)
	}
	dossiers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("load stages of flush %d: %w", flush, err)
	}
	if len(dossiers) == 0 {
		return nil
	}
	return p.mirror.SettleStages(ctx, tx, dossiers, time.Time{})
}

// find returns the flush that is to be processed, and when it was stored.
func (p *Processor) find(ctx context.Context, args FlushArgs) (flush int64, receivedAt time.Time, err error) {
	err = p.mirror.Pool().QueryRow(ctx, `
		SELECT flush, received_at FROM sync_flushes
		WHERE flush = coalesce(nullif($1, 0), (SELECT flush FROM webhook_events WHERE digest = decode($2, 'hex')))`,
		args.Flush, args.Event).Scan(&flush, &receivedAt)
	if err != nil {
		return 0, receivedAt, fmt.Errorf("load flush %s: %w", cmp.Or(args.Event, fmt.Sprint(args.Flush)), err)
	}
	return flush, receivedAt, nil
}

// recordStages adds the flush's stage_changed events to the stage history.
func (p *Processor) recordStages(ctx context.Context, flush int64) error {
	rows, err := p.mirror.Pool().Query(ctx, `
		SELECT id, dossier_id, stage_id, created_at FROM webhook_events
		WHERE flush = $1 AND type = 'dossier.stage_changed'
		  AND dossier_id IS NOT NULL AND stage_id IS NOT NULL AND created_at IS NOT NULL
		ORDER BY created_at, id`, flush)
	if err != nil {
		return fmt.Errorf("load stages of flush %d: %w", flush, err)
	}
	entered, err := pgx.CollectRows(rows, pgx.RowToStructByPos[mirror.StageEntered])
	if err != nil {
		return fmt.Errorf("load stages of flush %d: %w", flush, err)
	}
	if len(entered) == 0 {
		return nil
	}
	return p.mirror.InTx(ctx, func(tx pgx.Tx) error { return p.mirror.RecordStages(ctx, tx, entered) })
}

// readAll reads the dossiers that the flush names, several at once. One that fails does not keep the others from being read.
func (p *Processor) readAll(ctx context.Context, flush int64, seen seenFunc) (Report, error) {
	rows, err := p.mirror.Pool().Query(ctx, `
		SELECT dossier_id, bool_or(type = 'note.created') FROM webhook_events
		WHERE flush = $1 AND dossier_id IS NOT NULL
		GROUP BY dossier_id ORDER BY min(received_at), dossier_id`, flush)
	if err != nil {
		return Report{Flush: flush}, fmt.Errorf("load flush %d: %w", flush, err)
	}
	hints, err := pgx.CollectRows(rows, pgx.RowToStructByPos[hint])
	if err != nil {
		return Report{Flush: flush}, fmt.Errorf("load flush %d: %w", flush, err)
	}
	report := Report{Flush: flush, Dossiers: len(hints)}
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
		report.Unread = append(report.Unread, r.Unread...)
	}
	if fatal != nil {
		return report, fatal
	}
	return report, errors.Join(failures...)
}

// read brings one dossier up to date: the dossier itself, its notes if one was added, and its notes and links if they have never
// been read.
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
			// A list first read after the flush is a new dossier's, and is read once more. One read before is known, unless the
			// dossier was not there meanwhile: what it held may have gone with it.
			last, err := p.mirror.LastRead(ctx, ledger, hint.DossierID)
			if err != nil {
				return report, err
			}
			missing, err := p.mirror.LastRead(ctx, mirror.LedgerMissing(mappings.Dossiers), hint.DossierID)
			if err != nil {
				return report, err
			}
			if last.Number > missing.Number && last.Number <= flush {
				continue
			}
		}
		report.Read++
		result, err := list.read(ctx, hint.DossierID)
		if scopeMissing(err) {
			report.Unread = append(report.Unread, ListArgs{list.kind, hint.DossierID}) // the dossier itself is mirrored
			continue
		}
		if err != nil {
			return report, err
		}
		report.Changed += result.Changed
	}
	return report, nil
}

// ReadList reads what a flush pointed to and left unread.
func (p *Processor) ReadList(ctx context.Context, args ListArgs) (Report, error) {
	read := p.observer.Links
	if args.List == mappings.Notes {
		read = p.observer.Notes
	}
	result, err := read(ctx, args.Dossier)
	return Report{Dossiers: 1, Read: 1, Changed: result.Changed}, err
}

// LaggingError means that LeadGrid showed an older version of a dossier than is known, as a lagging replica does. The dossier
// must be read again.
type LaggingError struct{ DossierID string }

func (e *LaggingError) Error() string {
	return fmt.Sprintf("LeadGrid showed dossier %s older than it is known; it will be read again", e.DossierID)
}

func scopeMissing(err error) bool {
	pause, ok := errors.AsType[*access.PausedError](err)
	return ok && pause.Scope != access.Everything || errors.Is(err, leadgridapi.ErrForbidden)
}
