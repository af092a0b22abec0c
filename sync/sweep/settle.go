package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// More than this many dossiers or contacts gone at once, and more than this share of them, is taken for a mistake of
// LeadGrid's or ours until a person says otherwise (promise 5).
const (
	breakerRows  = 50
	breakerShare = 0.05
)

// witnesses is how many rows of a kind are asked for where a list shows none of them.
const witnesses = 5

// mostAsked bounds how often one doubt is asked about without any answer that changes it, which should not happen.
const mostAsked = 20

// swept are the kinds whose rows a complete sweep nominates by not seeing them.
var swept = []mappings.Kind{mappings.Flows, mappings.Dossiers, mappings.Contacts}

// nominate puts in doubt what the sweep did not see. An unclean list says nothing about what it did not show.
func (w *Sweeper) nominate(ctx context.Context, s *Sweep) (bool, error) {
	for _, kind := range swept {
		began, walked := s.Progress.Starts[kind]
		if !walked || slices.Contains(s.Progress.Unclean, kind) {
			continue
		}
		err := w.mirror.InTx(ctx, func(tx pgx.Tx) error {
			return w.mirror.Nominate(ctx, tx, kind, s.ID, began)
		})
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// settle asks LeadGrid about every row in doubt until none is left, waiting where an answer could still come from a
// replica that lags.
func (w *Sweeper) settle(ctx context.Context, s *Sweep) (over bool, err error) {
	var wait time.Time
	for _, kind := range mappings.Kinds {
		doubts, err := w.mirror.Doubts(ctx, kind, chunk)
		if err != nil {
			return false, err
		}
		if len(doubts) == 0 {
			continue
		}
		asked, later, err := w.ask(ctx, s, kind, doubts)
		if err != nil || s.Ended() {
			return false, err
		}
		if asked {
			return false, w.mirror.InTx(ctx, func(tx pgx.Tx) error { return w.save(ctx, tx, s) })
		}
		if wait.IsZero() || later.Before(wait) {
			wait = later
		}
	}
	if wait.IsZero() {
		return true, nil
	}
	return false, until(ctx, wait)
}

// ask settles those doubts of a chunk that can be settled now. Later is when the next one can be.
func (w *Sweeper) ask(ctx context.Context, s *Sweep, kind mappings.Kind, doubts []mirror.Doubt) (asked bool, later time.Time, err error) {
	now, err := w.mirror.Begin(ctx)
	if err != nil {
		return false, later, err
	}
	if s.asked == nil {
		s.asked = make(map[string]int)
	}
	var ids, gone []string
	for _, doubt := range doubts {
		// The first 404 may come at any time; all other answers count only when no replica can be behind.
		first := doubt.Absent && !doubt.Gone && slices.Contains(swept, kind)
		if !first && doubt.AskAt.After(now.BeganAt) {
			if later.IsZero() || doubt.AskAt.Before(later) {
				later = doubt.AskAt
			}
			continue
		}
		id := doubt.ID
		if !slices.Contains(swept, kind) {
			id = doubt.Parent
		}
		if slices.Contains(s.Progress.Failed, failedRead(kind, id)) {
			continue // the doubt outlasts this sweep
		}
		if s.asked[doubt.String()]++; s.asked[doubt.String()] > mostAsked {
			s.Progress.Failed = append(s.Progress.Failed, failedRead(kind, id))
			continue
		}
		if doubt.Gone {
			gone = append(gone, id)
		} else if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) > 0:
		_, err = w.readOnce(ctx, s, kind, ids, w.settler(kind))
	case len(gone) > 0:
		err = w.bury(ctx, s, kind, gone)
	}
	return len(ids)+len(gone) > 0, later, err
}

// settler reads what settles a doubt of the kind: the object itself, or everything its parent holds.
func (w *Sweeper) settler(kind mappings.Kind) reader {
	switch kind {
	case mappings.Links:
		return w.observer.Links
	case mappings.Notes:
		return w.observer.Notes
	case mappings.Stages:
		return w.observer.Stages
	}
	return w.getter(kind)
}

// bury asks a second time for rows that LeadGrid has said 404 for, and marks as deleted those that are still not there,
// while the organization answers.
func (w *Sweeper) bury(ctx context.Context, s *Sweep, kind mappings.Kind, ids []string) error {
	if open, err := w.breakerOpen(ctx, s, kind); err != nil || open {
		return err
	}
	var confirmed []string
	for _, id := range ids {
		result, err := w.getter(kind)(ctx, id)
		s.Requests++
		if err != nil {
			return err
		}
		if result.Confirmed {
			confirmed = append(confirmed, id)
		}
	}
	if len(confirmed) == 0 {
		return nil
	}
	// Proof that the organization still answers must begin after the last 404.
	s.Requests++
	if err := w.observer.Answers(ctx); err != nil {
		if errors.Is(err, mirror.ErrUnproven) {
			return w.breakOff(ctx, s, "everything the mirror knows is gone from LeadGrid"+nothingDeleted, kind)
		}
		return err
	}
	deleted, err := w.observer.Tombstone(ctx, kind, confirmed)
	s.RowsDeleted += int64(deleted)
	return err
}

// breakerOpen stops the sweep when too many rows of a kind are gone at once, or all of them, or some that a sweep before it
// stopped at.
func (w *Sweeper) breakerOpen(ctx context.Context, s *Sweep, kind mappings.Kind) (open bool, err error) {
	if s.AcceptDeletions {
		return false, nil
	}
	n, err := w.mirror.Missing(ctx, kind)
	if err != nil {
		return false, err
	}
	live, err := w.live(ctx, kind)
	if err != nil {
		return false, err
	}
	known := s.Progress.Known[kind]
	if known == 0 {
		known = live
	}
	most := max(breakerRows, int(breakerShare*float64(live)))
	var what string
	switch {
	case n.Absent >= known: // whatever else it shows
		what = fmt.Sprintf("LeadGrid's list shows none of the %d %s that the mirror held", known, kind)
	case n.Held > 0:
		what = fmt.Sprintf("%d %s are still missing that an earlier sync stopped at", n.Held, kind)
	case n.Gone <= most || kind == mappings.Flows:
		return false, nil
	case n.Gone < n.Absent:
		what = fmt.Sprintf("%d of %d %s are no longer in LeadGrid's lists, and %d of them that were asked for one by one are gone",
			n.Absent, live, kind, n.Gone)
	default:
		what = fmt.Sprintf("%d of %d %s are gone from LeadGrid at once", n.Absent, live, kind)
	}
	return true, w.breakOff(ctx, s, what+nothingDeleted, kind)
}

const nothingDeleted = ": nothing was marked as deleted; if that is right, run `worker sync --accept-deletions`"

// strange stops the sweep before anything of a list is written whose first page shows no row that the mirror holds, if those
// that it holds are not in LeadGrid either: such a list is of another organization, or of one that has lost everything.
func (w *Sweeper) strange(ctx context.Context, s *Sweep, kind mappings.Kind, head []json.RawMessage) (bool, error) {
	if s.AcceptDeletions || s.Progress.Known[kind] == 0 || len(head) == 0 {
		return false, nil
	}
	if knows, err := w.mirror.Knows(ctx, kind, head); err != nil || knows {
		return false, err
	}
	held, err := w.mirror.Some(ctx, kind, witnesses)
	if err != nil {
		return false, err
	}
	for _, id := range held {
		result, err := w.getter(kind)(ctx, id)
		s.Requests++
		if err != nil || !result.NotFound {
			return false, err
		}
	}
	return true, w.breakOff(ctx, s, fmt.Sprintf("LeadGrid's list shows none of the %d %s that the mirror held, and it has none of %d that were asked for: "+
		"nothing was written", s.Progress.Known[kind], kind, len(held))+nothingDeleted, kind)
}

func (w *Sweeper) live(ctx context.Context, kind mappings.Kind) (rows int, err error) {
	if err := w.pool.QueryRow(ctx, `SELECT count(*) FROM `+string(kind)+` WHERE _deleted_at IS NULL`).Scan(&rows); err != nil {
		return 0, fmt.Errorf("count %s: %w", kind, err)
	}
	return rows, nil
}

// finish says as of when each table is complete, and ends the sweep.
func (w *Sweeper) finish(ctx context.Context, s *Sweep) error {
	s.State = Done
	switch {
	case len(s.Progress.Refused) > 0:
		s.State = Stopped
		message := strings.Join(slices.Compact(s.Progress.Refused), "; ")
		s.Message = &message
	case len(s.Progress.Failed) > 0:
		s.State = Stopped
		message := fmt.Sprintf("LeadGrid failed time and again to give %s: run `worker sync` again", strings.Join(s.Progress.Failed, ", "))
		s.Message = &message
		for _, failed := range s.Progress.Failed {
			kind, _, _ := strings.Cut(failed, " ")
			s.Progress.Unclean = append(s.Progress.Unclean, mappings.Kind(kind))
		}
	case s.Progress.Orphans > 0:
		s.State = Stopped
		message := fmt.Sprintf("LeadGrid no longer has %d of the dossiers whose links or notes were to be read: "+
			"run `worker sync`, which reads the dossiers too", s.Progress.Orphans)
		s.Message = &message
	case len(s.Progress.Unclean) > 0:
		s.State = Stopped
		message := fmt.Sprintf("the list of %v kept changing while it was read: run `worker sync` again when it is calmer", s.Progress.Unclean)
		s.Message = &message
	}
	return w.mirror.InTx(ctx, func(tx pgx.Tx) error {
		for _, kind := range mappings.Kinds {
			at, read := s.Progress.Starts[kind]
			if !read || slices.Contains(s.Progress.Unclean, kind) {
				continue
			}
			if (kind == mappings.Links || kind == mappings.Notes) && s.Kind != Full {
				if err := w.mirror.CompleteSinceOldestRead(ctx, tx, kind, s.ID); err != nil {
					return err
				}
				continue
			}
			if err := w.mirror.CompleteAsOf(ctx, tx, kind, at, s.ID); err != nil {
				return err
			}
			if kind != mappings.Dossiers {
				continue
			}
			if err := w.mirror.SettleStages(ctx, tx, nil, at.BeganAt); err != nil {
				return err
			}
		}
		if err := w.mirror.Prune(ctx, tx); err != nil {
			return err
		}
		return w.save(ctx, tx, s)
	})
}
