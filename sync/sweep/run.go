package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// WaitError says that the sweep cannot go on before a moment.
type WaitError struct{ Until time.Time }

func (e *WaitError) Error() string {
	return fmt.Sprintf("the sweep goes on at %s", e.Until.Format(time.RFC3339))
}

// errOvertaken says that somebody else has moved the sweep on: a rescued job, or one who superseded it.
var errOvertaken = errors.New("the sweep was moved on by somebody else")

// refused notes a phase that the key has no scope for: the others go on without it, and the sweep's end says so.
func (w *Sweeper) refused(s *Sweep, p phase, err error) bool {
	pause, ok := errors.AsType[*access.PausedError](err)
	if !ok || pause.Scope == access.Everything {
		return false
	}
	s.Progress.Refused = append(s.Progress.Refused, pause.Message)
	s.Progress.Unclean = append(s.Progress.Unclean, p.kinds...)
	return true
}

// phase is one part of a sweep. Its step does a bounded piece of work, commits it together with the progress it makes,
// and reports whether the phase is over.
type phase struct {
	name  string
	kinds []mappings.Kind // that it reads
	step  func(ctx context.Context, s *Sweep) (over bool, err error)
}

// phases lists what a sweep does, in order: parents before children, and doubts last.
func (w *Sweeper) phases(s *Sweep) []phase {
	var phases []phase
	add := func(resource, name string, step func(ctx context.Context, s *Sweep) (bool, error)) {
		if resource == "" || s.wants(resource) {
			phases = append(phases, phase{name, Resources[resource], step})
		}
	}
	add("flows", "flows", w.walkFlows)
	add("flows", "stages", w.readStages)
	add("dossiers", "dossiers", w.walkDossiers)
	for _, status := range statuses {
		add("dossiers", "dossiers "+status, w.walkStatus(status))
	}
	add("dossiers", "dossier details", w.readDossiers)
	for _, pool := range pools {
		add("contacts", "contacts "+pool+" first", w.walkPoolFirst(pool))
	}
	add("contacts", "contacts", w.walkContacts)
	for _, pool := range pools {
		add("contacts", "contacts "+pool, w.walkPool(pool))
	}
	add("contacts", "pool", w.clearPool)
	add("contacts", "contact details", w.readContacts)
	add("links", "links", w.readLists("links"))
	add("notes", "notes", w.readLists("notes"))
	add("", "nominate", w.nominate)
	add("", "settle", w.settle)
	return phases
}

// Run works on a sweep until it has ended, an error comes up, or the time is spent; then more is true. The error of a
// refusal or of a spent budget is returned as it is: running again later goes on from the last committed step.
func (w *Sweeper) Run(ctx context.Context, id int64, patience time.Duration) (s *Sweep, more bool, err error) {
	s, err = Load(ctx, w.pool, id)
	if err != nil || s.Ended() {
		return s, false, err
	}
	if err := w.begin(ctx, s); err != nil {
		return s, false, err
	}
	phases := w.phases(s)
	s.deadline = time.Now().Add(patience)
	defer s.stop()
	for i := w.at(phases, s); i < len(phases); {
		s.Progress.Phase = phases[i].name
		over, err := phases[i].step(ctx, s)
		switch {
		case errors.Is(err, errOvertaken):
			s, err = Load(ctx, w.pool, id)
			return s, err == nil && !s.Ended(), err
		case w.refused(s, phases[i], err):
			i++
			if err := w.enter(ctx, s, phases, i); err != nil {
				return s, false, err
			}
		case err != nil:
			return s, false, err
		case s.Ended():
			return s, false, nil
		case over:
			i++
			if err := w.enter(ctx, s, phases, i); err != nil {
				return s, false, err
			}
		}
		if time.Now().After(s.deadline) && s.reading == nil { // what has been asked for is taken in
			return s, true, nil
		}
	}
	return s, false, w.finish(ctx, s)
}

// begin marks the sweep as running, once; older sweeps that are under way go first.
func (w *Sweeper) begin(ctx context.Context, s *Sweep) error {
	var earlier bool
	err := w.pool.QueryRow(ctx,
		`SELECT EXISTS (SELECT FROM sync_sweeps WHERE state IN ('queued', 'running') AND id < $1)`, s.ID).Scan(&earlier)
	if err != nil {
		return fmt.Errorf("look for earlier sweeps: %w", err)
	}
	if earlier {
		return &WaitError{Until: time.Now().Add(2 * time.Second)}
	}
	if s.State == Running {
		return nil
	}
	began, err := w.mirror.Begin(ctx)
	if err != nil {
		return err
	}
	s.Progress.Began = began
	s.Progress.Known = make(map[mappings.Kind]int)
	for _, kind := range swept {
		if s.Progress.Known[kind], err = w.live(ctx, kind); err != nil {
			return err
		}
	}
	s.State = Running
	return w.mirror.InTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE sync_sweeps SET started_at = now() WHERE id = $1`, s.ID); err != nil {
			return fmt.Errorf("start sweep: %w", err)
		}
		return w.save(ctx, tx, s)
	})
}

func (w *Sweeper) at(phases []phase, s *Sweep) int {
	for i, phase := range phases {
		if phase.name == s.Progress.Phase {
			return i
		}
	}
	s.Progress.standAtBeginning() // of another version's phase nothing is known
	return 0
}

// standAtBeginning forgets how far a phase had come.
func (p *Progress) standAtBeginning() { p.Walk, p.After, p.Done, p.Total = nil, "", 0, 0 }

// enter moves on to phase i.
func (w *Sweeper) enter(ctx context.Context, s *Sweep, phases []phase, i int) error {
	s.Progress.standAtBeginning()
	if i == len(phases) {
		s.Progress.Phase = "finish"
		return nil
	}
	s.Progress.Phase = phases[i].name
	return w.mirror.InTx(ctx, func(tx pgx.Tx) error { return w.save(ctx, tx, s) })
}

// save stores the progress, unless somebody else has moved the sweep on since it was loaded.
func (w *Sweeper) save(ctx context.Context, tx pgx.Tx, s *Sweep) error {
	return w.saveAnd(ctx, tx, s, "")
}

// saveAnd is save with something more to return from the row.
func (w *Sweeper) saveAnd(ctx context.Context, tx pgx.Tx, s *Sweep, returning string) error {
	progress, err := json.Marshal(s.Progress)
	if err != nil {
		return fmt.Errorf("encode progress: %w", err)
	}
	tag, err := tx.Exec(ctx, `
		UPDATE sync_sweeps SET state = $3, progress = $4, requests = $5, rows_changed = $6, rows_deleted = $7, message = $8,
			step = step + 1, finished_at = CASE WHEN $3 = 'running' THEN NULL ELSE now() END
		WHERE id = $1 AND step = $2 AND state IN ('queued', 'running') `+returning,
		s.ID, s.step, s.State, progress, s.Requests, s.RowsChanged, s.RowsDeleted, s.Message)
	if err != nil {
		return fmt.Errorf("save progress of sweep %d: %w", s.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return errOvertaken
	}
	s.step++
	return nil
}

// saving is the step that an observation commits its rows together with. Such a commit does not wait for the disk: if a crash of
// Postgres takes the rows back it takes the progress back as well, and they are read again. Any commit that does wait, as those
// that begin and end phases do, waits for all that came before it.
func (w *Sweeper) saving(ctx context.Context, s *Sweep) func(tx pgx.Tx, applied mirror.Applied) error {
	return func(tx pgx.Tx, applied mirror.Applied) error {
		s.RowsChanged += int64(applied.Changed)
		s.RowsDeleted += int64(len(applied.Deleted))
		return w.saveAnd(ctx, tx, s, `RETURNING set_config('synchronous_commit', 'off', true)`)
	}
}

// breakOff ends the sweep because too much of a kind would have to be marked as deleted.
func (w *Sweeper) breakOff(ctx context.Context, s *Sweep, message string, kind mappings.Kind) error {
	s.State, s.Message, s.Progress.Breaker = Stopped, &message, true
	return w.mirror.InTx(ctx, func(tx pgx.Tx) error {
		if err := w.mirror.Hold(ctx, tx, kind); err != nil {
			return err
		}
		return w.save(ctx, tx, s)
	})
}
