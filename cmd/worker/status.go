package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how things stand",
		Long:  "Say how things stand: rows and freshness per table, events waiting, sweeps, API budget, and what LeadGrid refuses.",
		Args:  cobra.NoArgs,
		RunE:  does(func(ctx context.Context, _ []string) error { return p.status(ctx, asJSON) }),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (p *program) status(ctx context.Context, asJSON bool) error {
	var config databaseConfig
	pool, err := open(ctx, &config, "leadgrid-status")
	if err != nil {
		return err
	}
	defer pool.Close()
	status, err := newStateReader(pool, budget.New(pool, budget.Options{}), config.QueueSchema).status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(status)
	}
	status.print(p.out)
	return nil
}

// status is how things stand at a moment. Its JSON is read by scripts: names may be added, not changed.
type status struct {
	At     time.Time     `json:"at"`
	Tables []tableStatus `json:"tables"`
	Events eventStatus   `json:"events"`
	Sweeps []sweepStatus `json:"sweeps"` // those under way, and the last that ended and was not superseded
	API    apiStatus     `json:"api"`
	Pauses []pauseStatus `json:"pauses"`
}

type tableStatus struct {
	Table        string     `json:"table"`
	Rows         int64      `json:"rows"`
	Deleted      int64      `json:"deleted"`
	CompleteAsOf *time.Time `json:"complete_as_of"` // null before the first sweep
}

type eventStatus struct {
	Waiting int64      `json:"waiting"`
	Oldest  *time.Time `json:"oldest"`
}

type sweepStatus struct {
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"`
	Resources   []string   `json:"resources"`
	State       string     `json:"state"`
	Phase       string     `json:"phase,omitempty"`
	Done        int        `json:"done"`  // of the phase
	Total       int        `json:"total"` // as expected; 0 while unknown
	Requests    int64      `json:"requests"`
	RowsChanged int64      `json:"rows_changed"`
	RowsDeleted int64      `json:"rows_deleted"`
	Message     string     `json:"message,omitempty"`
	RequestedAt time.Time  `json:"requested_at"`
	StartedAt   *time.Time `json:"started_at"`
	FinishedAt  *time.Time `json:"finished_at"`

	what string
}

type apiStatus struct {
	Limit         int        `json:"limit"` // 0 if LeadGrid announced none
	Remaining     int        `json:"remaining"`
	ReadAt        *time.Time `json:"read_at"`
	WindowSeconds float64    `json:"window_seconds"` // 0 if not known yet
	Pace          float64    `json:"requests_per_second"`
	Refusals      int64      `json:"refusals"`
	BlockedUntil  *time.Time `json:"blocked_until"`
	BlockedWhy    string     `json:"blocked_why,omitempty"`
}

type pauseStatus struct {
	Scope   string    `json:"scope"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	ProbeAt time.Time `json:"probe_at"`
}

func (r *stateReader) status(ctx context.Context) (*status, error) {
	state, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := readTables(ctx, r.pool)
	if err != nil {
		return nil, err
	}
	s := &status{
		At: state.At, Tables: tables, Events: eventStatus{Waiting: state.Waiting, Oldest: state.Oldest},
		Sweeps: []sweepStatus{}, Pauses: []pauseStatus{},
	}
	for _, one := range state.Sweeps {
		s.Sweeps = append(s.Sweeps, newSweepStatus(one))
	}
	api := state.Budget
	s.API = apiStatus{
		Limit: api.Limit, Remaining: api.Remaining, ReadAt: unlessZero(api.ReadAt), WindowSeconds: api.Window.Seconds(), Pace: api.Pace,
		Refusals: api.Refusals, BlockedUntil: unlessZero(api.BlockedUntil), BlockedWhy: api.BlockedWhy,
	}
	for _, pause := range state.Pauses {
		s.Pauses = append(s.Pauses, pauseStatus(pause))
	}
	return s, nil
}

func readTables(ctx context.Context, pool *pgxpool.Pool) ([]tableStatus, error) {
	var counts []string
	for _, kind := range mappings.Kinds {
		counts = append(counts, fmt.Sprintf(
			`SELECT '%[1]s', count(*) FILTER (WHERE _deleted_at IS NULL), count(_deleted_at) FROM %[1]s`, kind))
	}
	rows, err := pool.Query(ctx, `
		SELECT t.name, t.live, t.deleted, f.complete_as_of
		FROM (`+strings.Join(counts, " UNION ALL ")+`) t (name, live, deleted) LEFT JOIN sync_freshness f ON f.table_name = t.name`)
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableStatus])
	if err != nil {
		return nil, fmt.Errorf("count rows: %w", err)
	}
	slices.SortFunc(tables, func(a, b tableStatus) int {
		return slices.Index(mappings.Kinds, mappings.Kind(a.Table)) - slices.Index(mappings.Kinds, mappings.Kind(b.Table))
	})
	return tables, nil
}

func newSweepStatus(s *sweep.Sweep) sweepStatus {
	status := sweepStatus{
		ID: s.ID, Kind: string(s.Kind), Resources: s.Resources, State: string(s.State), Phase: s.Progress.Phase, Done: s.Progress.Done, Total: s.Progress.Total,
		Requests: s.Requests, RowsChanged: s.RowsChanged, RowsDeleted: s.RowsDeleted,
		RequestedAt: s.RequestedAt, StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, what: s.What(),
	}
	if s.Message != nil {
		status.Message = *s.Message
	}
	return status
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// print writes the status for people.
func (s *status) print(out io.Writer) {
	grid := newGrid(out, "table", "rows", "deleted", "complete as of")
	for _, t := range s.Tables {
		fresh := "never swept"
		if t.CompleteAsOf != nil {
			fresh = s.moment(*t.CompleteAsOf)
		}
		grid.AppendRow([]any{t.Table, number(t.Rows), number(t.Deleted), fresh})
	}
	grid.Render()
	fmt.Fprintln(out)

	lines := newGrid(out)
	lines.AppendRow([]any{"events", s.eventLine()})
	for _, one := range s.Sweeps {
		lines.AppendRow([]any{fmt.Sprintf("sweep %d", one.ID), s.sweepLine(one)})
	}
	if len(s.Sweeps) == 0 {
		lines.AppendRow([]any{"sweeps", "none yet: run `worker sync`"})
	}
	lines.AppendRow([]any{"API budget", s.apiLine()})
	for _, pause := range s.Pauses {
		lines.AppendRow([]any{"PAUSED", fmt.Sprintf("%s; tried again %s", pause.Message, s.moment(pause.ProbeAt))})
	}
	lines.Render()
}

func (s *status) eventLine() string {
	if s.Events.Oldest == nil {
		return "none waiting"
	}
	return fmt.Sprintf("%s waiting, the oldest since %s", number(s.Events.Waiting), s.moment(*s.Events.Oldest))
}

func (s *status) sweepLine(one sweepStatus) string {
	line := one.what + ", " + one.State
	switch {
	case one.FinishedAt != nil:
		line += fmt.Sprintf(" %s: %s requests, %s rows changed, %s marked as deleted",
			s.moment(*one.FinishedAt), number(one.Requests), number(one.RowsChanged), number(one.RowsDeleted))
	case one.StartedAt != nil:
		line += fmt.Sprintf(" since %s: %s", s.moment(*one.StartedAt), one.Phase)
		if one.Total > 0 {
			done := min(one.Done, one.Total)
			line += fmt.Sprintf(", %s of %s (%d%%)", number(done), number(one.Total), 100*done/one.Total)
		}
	default:
		line += " since " + s.moment(one.RequestedAt)
	}
	if one.Message != "" {
		line += "; " + one.Message
	}
	return line
}

func (s *status) apiLine() string {
	line := "LeadGrid has announced no limit yet"
	if s.API.Limit > 0 && s.API.ReadAt != nil {
		line = fmt.Sprintf("%s of %s requests left %s", number(s.API.Remaining), number(s.API.Limit), s.moment(*s.API.ReadAt))
	}
	if s.API.BlockedUntil != nil {
		line += fmt.Sprintf("; BLOCKED until %s: %s", s.moment(*s.API.BlockedUntil), s.API.BlockedWhy)
	}
	return line
}

// moment writes a time and how far it is from now.
func (s *status) moment(t time.Time) string {
	ago := s.At.Sub(t).Round(time.Second)
	text := t.UTC().Format("2006-01-02 15:04:05Z")
	if ago < 0 {
		return fmt.Sprintf("%s (in %v)", text, -ago)
	}
	return fmt.Sprintf("%s (%v ago)", text, ago)
}
