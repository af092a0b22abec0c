// Package sweep reconciles the mirror with everything LeadGrid lists: flows, stages, dossiers, contacts, links and notes. It
// works in bounded steps whose progress is committed together with the rows, so that a restart continues where it was.
//
// A sweep only nominates rows that it did not see; package mirror decides what may be deleted (promise 5).
//
// Start reading at [Sweeper.Run] and the phases in run.go. walk.go reads a list that may move, details.go and stretch.go read
// objects and lists one by one, settle.go settles doubts and ends the sweep.
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
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// Kind says what a sweep is for.
type Kind string

// The kinds of sweeps.
const (
	// Full reads every list, links and notes of every dossier included: afterwards the mirror is equal.
	Full Kind = "full"
	// Scheduled reads flows, dossiers and contacts, but links and notes only where change is likely and where they have not
	// been read for longest.
	Scheduled Kind = "scheduled"
)

// State is where a sweep stands.
type State string

// The states of a sweep.
const (
	Queued     State = "queued"
	Running    State = "running"
	Done       State = "done"
	Stopped    State = "stopped"    // and the message says why
	Superseded State = "superseded" // by a full sweep that was asked for
)

// Resources that a sweep can be asked for, and the tables each brings up to date.
var Resources = map[string][]mappings.Kind{
	"flows":    {mappings.Flows, mappings.Stages},
	"dossiers": {mappings.Dossiers},
	"contacts": {mappings.Contacts},
	"links":    {mappings.Links},
	"notes":    {mappings.Notes},
}

// ResourceNames lists the resources in the order in which they are swept.
var ResourceNames = []string{"flows", "dossiers", "contacts", "links", "notes"}

// Options configures a Sweeper. The zero value is right for production.
type Options struct {
	// Rotation is how long scheduled sweeps take to read the links and notes of every dossier; 0 is a week.
	Rotation time.Duration
	// Interval is the time between scheduled sweeps; 0 is an hour.
	Interval time.Duration
	// Hot is how long after a change every scheduled sweep reads a dossier's links and notes; 0 is two days.
	Hot time.Duration
}

// Sweeper runs sweeps. It is safe for use by many goroutines, but each sweep must be run by one at a time.
type Sweeper struct {
	observer *observe.Observer
	mirror   *mirror.Mirror
	pool     *pgxpool.Pool
	options  Options
}

// New returns a Sweeper.
func New(observer *observe.Observer, options Options) *Sweeper {
	if options.Rotation == 0 {
		options.Rotation = 7 * 24 * time.Hour
	}
	if options.Interval == 0 {
		options.Interval = time.Hour
	}
	if options.Hot == 0 {
		options.Hot = 48 * time.Hour
	}
	return &Sweeper{observer: observer, mirror: observer.Mirror(), pool: observer.Mirror().Pool(), options: options}
}

// Sweep is a sweep and its progress, as stored.
type Sweep struct {
	ID              int64
	Kind            Kind
	Resources       []string
	State           State
	AcceptDeletions bool
	Requests        int64
	RowsChanged     int64
	RowsDeleted     int64
	Message         *string
	RequestedAt     time.Time
	StartedAt       *time.Time
	FinishedAt      *time.Time
	Progress        Progress
	step            int64
	loaded          int64 // step when it was loaded
	deadline        time.Time
	reading         *reading       // of the list being walked
	asked           map[string]int // how often each doubt has been asked about
}

// Progress is how far a sweep has come; it is stored after every step.
type Progress struct {
	Phase string             `json:"phase"`
	Began mirror.Observation `json:"began"`          // of the sweep
	Walk  *walk              `json:"walk,omitempty"` // through the list being read
	After string             `json:"after,omitempty"`
	// Pooled lists the pools whose contacts were read before all contacts were.
	Pooled []string `json:"pooled,omitempty"`
	// Starts says when the reading of each kind began, as of which it will be complete.
	Starts map[mappings.Kind]mirror.Observation `json:"starts,omitempty"`
	// Known is how many live rows there were of each kind when the sweep began.
	Known map[mappings.Kind]int `json:"known,omitempty"`
	// Orphans counts the dossiers that are gone from LeadGrid and whose links or notes a sweep without dossiers was to read.
	Orphans int `json:"orphans,omitempty"`
	// Unclean lists the kinds whose lists never held still, so that absence from them proves nothing.
	Unclean []mappings.Kind `json:"unclean,omitempty"`
	// Failed lists the objects that LeadGrid could not give, as kind and id.
	Failed []string `json:"failed,omitempty"`
	// Refused holds what LeadGrid said where the key lacks a scope.
	Refused []string `json:"refused,omitempty"`
	// Thin lists the kinds whose list rows hide fields that a GET shows.
	Thin []mappings.Kind `json:"thin,omitempty"`
	// Statuses are the dossier statuses seen; one that was not is asked for by name.
	Statuses []string `json:"statuses,omitempty"`
	// Breaker says that the sweep was stopped because it would have marked too many rows as deleted.
	Breaker bool `json:"breaker,omitempty"`
	// Left is of how many dossiers that did not change lately a scheduled sweep still reads links and notes.
	Left int `json:"left,omitempty"`
	// Done and Total count what the phase has done and expects to do, for people who watch.
	Done  int `json:"done"`
	Total int `json:"total"`
}

// Ended reports whether the sweep is over.
func (s *Sweep) Ended() bool { return s.State != Queued && s.State != Running }

// Steps is how many steps have been committed since the sweep was loaded.
func (s *Sweep) Steps() int64 { return s.step - s.loaded }

// What names what the sweep reads: its kind, and the resources unless they are all.
func (s *Sweep) What() string {
	if len(s.Resources) == len(ResourceNames) {
		return string(s.Kind)
	}
	return string(s.Kind) + " of " + strings.Join(s.Resources, ", ")
}

func (s *Sweep) wants(resource string) bool { return slices.Contains(s.Resources, resource) }

// ErrNoSuchSweep means that there is no sweep with that id.
var ErrNoSuchSweep = errors.New("no such sweep")

const columns = `id, kind, resources, state, accept_deletions, requests, rows_changed, rows_deleted, message,
	requested_at, started_at, finished_at, progress, step`

// Load reads one sweep.
func Load(ctx context.Context, pool *pgxpool.Pool, id int64) (*Sweep, error) {
	return scan(pool.QueryRow(ctx, `SELECT `+columns+` FROM sync_sweeps WHERE id = $1`, id))
}

// Latest lists the sweeps that have not ended, then the last that have, newest first, up to limit.
func Latest(ctx context.Context, pool *pgxpool.Pool, limit int) ([]*Sweep, error) {
	rows, err := pool.Query(ctx, `SELECT `+columns+` FROM sync_sweeps
		ORDER BY state IN ('queued', 'running') DESC, id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("list sweeps: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Sweep, error) { return scan(row) })
}

func scan(row pgx.Row) (*Sweep, error) {
	var s Sweep
	var progress []byte
	err := row.Scan(&s.ID, &s.Kind, &s.Resources, &s.State, &s.AcceptDeletions, &s.Requests, &s.RowsChanged, &s.RowsDeleted,
		&s.Message, &s.RequestedAt, &s.StartedAt, &s.FinishedAt, &progress, &s.step)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoSuchSweep
	}
	if err != nil {
		return nil, fmt.Errorf("load sweep: %w", err)
	}
	s.loaded = s.step
	if progress != nil {
		if err := json.Unmarshal(progress, &s.Progress); err != nil {
			return nil, fmt.Errorf("load progress of sweep %d: %w", s.ID, err)
		}
	}
	return &s, nil
}

// Args is the River job that runs a sweep.
type Args struct {
	Sweep int64 `json:"sweep"`
}

// Kind is stored with every job: it never changes.
func (Args) Kind() string { return "leadgrid_sweep" }

// EndAbandoned ends the sweeps that nobody will work on because their job was cancelled, discarded or deleted. Later sweeps would
// wait for them forever.
func EndAbandoned(ctx context.Context, tx pgx.Tx, queueSchema string) error {
	_, err := tx.Exec(ctx, `
		UPDATE sync_sweeps s SET state = 'superseded', finished_at = now(), message = 'its job was removed from the queue'
		WHERE state IN ('queued', 'running') AND NOT `+hasJob(queueSchema, `finalized_at IS NULL`), Args{}.Kind())
	if err != nil {
		return fmt.Errorf("end abandoned sweeps: %w", err)
	}
	return nil
}

// hasJob is the SQL condition that sweep s has a job for which a condition holds; $1 is the job's kind.
func hasJob(queueSchema, condition string) string {
	return `EXISTS (SELECT FROM ` + pgx.Identifier{queueSchema, "river_job"}.Sanitize() + ` j
		WHERE j.kind = $1 AND j.args @> jsonb_build_object('sweep', s.id) AND j.` + condition + `)`
}

// Waiting returns a sweep that was asked for in the same way, reads as much, and has not begun: what a request now would ask for.
func Waiting(
	ctx context.Context, tx pgx.Tx, queueSchema string, kind Kind, resources []string, acceptDeletions bool,
) (id int64, found bool, err error) {
	if len(resources) == 0 {
		resources = ResourceNames
	}
	err = tx.QueryRow(ctx, `
		SELECT id FROM sync_sweeps s
		WHERE state = 'queued' AND kind = $2 AND resources @> $3 AND accept_deletions = $4
		  AND `+hasJob(queueSchema, `finalized_at IS NULL AND j.state <> 'retryable'`)+`
		ORDER BY id LIMIT 1 FOR UPDATE`, Args{}.Kind(), kind, resources, acceptDeletions).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for a sweep that waits: %w", err)
	}
	return id, true, nil
}

// Request asks for a sweep in the caller's transaction, which must also insert the job that runs it. A full sweep supersedes
// unfinished scheduled ones, and unfinished full ones whose last attempt failed if it reads everything that they would.
func Request(
	ctx context.Context, tx pgx.Tx, queueSchema string, kind Kind, resources []string, acceptDeletions bool,
) (id int64, err error) {
	if len(resources) == 0 {
		resources = ResourceNames
	}
	for _, resource := range resources {
		if _, ok := Resources[resource]; !ok {
			return 0, fmt.Errorf("unknown resource %q: choose from %v", resource, ResourceNames)
		}
	}
	if err := EndAbandoned(ctx, tx, queueSchema); err != nil {
		return 0, err
	}
	if kind == Full {
		_, err := tx.Exec(ctx, `
			UPDATE sync_sweeps s SET state = 'superseded', finished_at = now()
			WHERE state IN ('queued', 'running') AND (kind = 'scheduled' OR
				resources <@ $2 AND `+hasJob(queueSchema, `state = 'retryable'`)+`)`, Args{}.Kind(), resources)
		if err != nil {
			return 0, fmt.Errorf("supersede sweeps: %w", err)
		}
	}
	err = tx.QueryRow(ctx, `INSERT INTO sync_sweeps (kind, resources, accept_deletions) VALUES ($1, $2, $3) RETURNING id`,
		kind, resources, acceptDeletions).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("request sweep: %w", err)
	}
	return id, nil
}

// LongestOpen returns how long ago the oldest unfinished sweep was requested, 0 if there is none.
func LongestOpen(ctx context.Context, pool *pgxpool.Pool) (waited time.Duration, err error) {
	err = pool.QueryRow(ctx, `
		SELECT coalesce(now() - min(requested_at), '0') FROM sync_sweeps WHERE state IN ('queued', 'running')`).Scan(&waited)
	if err != nil {
		return 0, fmt.Errorf("look for the oldest sweep: %w", err)
	}
	return waited, nil
}
