package sweep

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

const (
	// stretch is how many dossiers a full sweep takes in hand at once, together how many of their lists it commits at once.
	stretch, together = 2048, 128
	// gathering is how long a list that has been read waits for others to be committed with: a crash costs no more.
	gathering = time.Second
)

// readStretch reads the links or notes of the next dossiers in the order of their ids, several side by side, and commits
// together what has come up to an id: rows, ledger and progress.
func (w *Sweeper) readStretch(ctx context.Context, s *Sweep, kind mappings.Kind) (over bool, err error) {
	next, err := w.due(ctx, s, mappings.Dossiers, mirror.LedgerKind(kind), stretch)
	if err != nil {
		return false, err
	}
	if len(next.ids) == 0 {
		return !next.more, w.commit(ctx, s, kind, nil, nil, next.last)
	}
	answers, stop := w.startReading(ctx, kind, next.ids)
	defer stop()
	for from := 0; from < len(next.ids); {
		to := gather(answers, from)
		if to == from {
			stop()
			return false, errors.Join(answers[from].err, w.keep(ctx, answers[from:]))
		}
		last := next.ids[to-1]
		if to == len(next.ids) {
			last = next.last
		}
		if err := w.commit(ctx, s, kind, next.ids[from:to], answers[from:to], last); err != nil {
			return false, err
		}
		from = to
	}
	return !next.more, nil
}

// answer is what became of one dossier's list, once done is closed.
type answer struct {
	list   observe.List
	failed error // LeadGrid cannot give this list
	err    error // no list could be had
	done   chan struct{}
}

// startReading begins to read the lists. Stop gives up those that have not come and waits until nobody reads any more.
func (w *Sweeper) startReading(ctx context.Context, kind mappings.Kind, ids []string) (answers []answer, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	answers = make([]answer, len(ids))
	for i := range answers {
		answers[i].done = make(chan struct{})
	}
	one := func(i int) {
		a := &answers[i]
		defer close(a.done)
		a.list, a.err = w.observer.ReadList(ctx, kind, ids[i])
		switch {
		case a.err == nil:
		case ctx.Err() != nil:
			a.err = context.Cause(ctx)
		case leadgridapi.Temporary(a.err):
			a.failed, a.err = a.err, nil
		default:
			cancel(a.err)
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		one(0) // alone: it may be the probe of a refused scope, which must not be cut off by the others' waiting for it
		var next atomic.Int64
		for range readers {
			group.Go(func() {
				for i := int(next.Add(1)); i < len(ids); i = int(next.Add(1)) {
					one(i)
				}
			})
		}
	})
	return answers, func() { cancel(context.Canceled); group.Wait() }
}

// gather waits for the answer at from, and a little for those behind it. What lies between from and to can be committed.
func gather(answers []answer, from int) (to int) {
	<-answers[from].done
	enough := time.NewTimer(gathering)
	defer enough.Stop()
	for to = from; to < min(len(answers), from+together); to++ {
		select {
		case <-answers[to].done:
		default:
			select {
			case <-answers[to].done:
			case <-enough.C:
				return to
			}
		}
		if answers[to].err != nil {
			return to
		}
	}
	return to
}

// commit applies the lists that were read up to the id last, and what else there was in the stretch that ends there.
func (w *Sweeper) commit(ctx context.Context, s *Sweep, kind mappings.Kind, ids []string, answers []answer, last string) error {
	lists := make([]observe.List, 0, len(answers))
	failures := make([]error, len(answers))
	for i, a := range answers {
		s.Requests += max(1, int64(a.list.Requests))
		if failures[i] = a.failed; a.failed == nil {
			lists = append(lists, a.list)
		}
	}
	if err := s.leaveOut(kind, ids, failures); err != nil {
		return err
	}
	var missing []string
	for i, a := range answers {
		if a.list.NotFound {
			missing = append(missing, ids[i])
		}
	}
	if len(missing) > 0 {
		err := w.bracketed(ctx, func() (err error) {
			missing, err = w.readOnce(ctx, s, kind, missing, w.settler(kind))
			return err
		})
		if err != nil {
			return err
		}
		if len(missing) > 0 && !s.wants("dossiers") { // who would find out that they are gone
			s.Progress.Orphans += len(missing)
			s.Progress.Unclean = append(s.Progress.Unclean, kind)
		}
	}
	whole := mirror.Stretch{Sweep: s.ID, After: s.Progress.After, Last: last}
	moved := func(tx pgx.Tx, applied mirror.Applied) error {
		s.Progress.After = last
		s.Progress.Done += len(ids)
		return w.saving(ctx, s)(tx, applied)
	}
	_, err := w.observer.ApplyStretch(ctx, kind, lists, whole, moved)
	if !errors.Is(err, mirror.ErrUnproven) {
		return err
	}
	// The organization has been proved since: read once more, each is proved on its own.
	if err := w.read(ctx, s, kind, ids, w.settler(kind)); err != nil {
		return err
	}
	return w.mirror.InTx(ctx, func(tx pgx.Tx) error { return moved(tx, mirror.Applied{}) })
}

// keep applies, each on its own, the lists that have come behind one that could not be had: they need not be read again.
func (w *Sweeper) keep(ctx context.Context, answers []answer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var lists []observe.List
	for _, a := range answers {
		if a.err == nil && a.failed == nil {
			lists = append(lists, a.list)
		}
	}
	return w.observer.ApplyLists(ctx, lists)
}
