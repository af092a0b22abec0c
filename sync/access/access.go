// Package access knows whether LeadGrid may be asked at all. A key that is refused, a plan without API access or a key of
// another organization pauses everything, a missing scope pauses what needs it; a paused scope is probed slowly, by one
// replica at a time, and opens by itself.
package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// Everything is the scope of a pause that holds for all requests.
const Everything = "*"

// The reasons for a pause.
const (
	Unauthorized      = "unauthorized"
	PlanRequired      = "plan_required"
	Forbidden         = "forbidden"
	OtherOrganization = "other_organization"
)

// DefaultProbeEvery is how long a paused scope rests between two probes.
const DefaultProbeEvery = time.Minute

// PausedError says that nothing was sent because LeadGrid refuses this key, and when it will be tried again.
type PausedError struct {
	Scope   string
	Reason  string
	Message string
	ProbeAt time.Time
}

func (e *PausedError) Error() string { return "LeadGrid is not asked: " + e.Message }

// Gate stands before every request to LeadGrid. It is safe for use by many goroutines; all replicas share its state
// through Postgres.
type Gate struct {
	pool  *pgxpool.Pool
	every time.Duration

	mu     sync.Mutex
	pauses []PausedError
	loaded time.Time
}

// New returns a gate that keeps its state through pool; every is the time between two probes, 0 for the default.
func New(pool *pgxpool.Pool, every time.Duration) *Gate {
	return &Gate{pool: pool, every: cmp.Or(every, DefaultProbeEvery)}
}

// Check returns nil when a request that needs the scopes may be sent, and a *PausedError otherwise. When a probe is due,
// the first caller gets nil and the others wait for what it finds.
func (g *Gate) Check(ctx context.Context, scopes ...string) error {
	pauses, err := g.current(ctx)
	if err != nil {
		return err
	}
	for _, pause := range pauses {
		if !concerns(pause.Scope, scopes) {
			continue
		}
		probe, err := g.claimProbe(ctx, pause.Scope)
		if err != nil {
			return err
		}
		if !probe {
			return &pause
		}
	}
	return nil
}

func concerns(paused string, scopes []string) bool {
	return paused == Everything || slices.Contains(scopes, paused)
}

// claimProbe lets one caller through per interval.
func (g *Gate) claimProbe(ctx context.Context, scope string) (bool, error) {
	tag, err := g.pool.Exec(ctx,
		`UPDATE sync_pauses SET probe_at = now() + $2::interval WHERE scope = $1 AND probe_at <= now()`, scope, g.every)
	if err != nil {
		return false, fmt.Errorf("claim probe: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// current gives the pauses, at most a second old.
func (g *Gate) current(ctx context.Context) ([]PausedError, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.loaded) < time.Second {
		return g.pauses, nil
	}
	pauses, err := Pauses(ctx, g.pool)
	if err != nil {
		return nil, err
	}
	g.pauses, g.loaded = pauses, time.Now()
	return pauses, nil
}

func (g *Gate) forget() {
	g.mu.Lock()
	g.loaded = time.Time{}
	g.mu.Unlock()
}

// Pauses lists what keeps us from asking LeadGrid.
func Pauses(ctx context.Context, pool *pgxpool.Pool) ([]PausedError, error) {
	rows, err := pool.Query(ctx, `SELECT scope, reason, message, probe_at FROM sync_pauses ORDER BY since, scope`)
	if err != nil {
		return nil, fmt.Errorf("read pauses: %w", err)
	}
	pauses, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PausedError])
	if err != nil {
		return nil, fmt.Errorf("read pauses: %w", err)
	}
	return pauses, nil
}

// Refused notes an answer that closes the gate: 401 and 402 for everything, 403 for the scope that was missing. Other
// errors change nothing. It reports whether the error was such a refusal.
func (g *Gate) Refused(ctx context.Context, err error, scopes ...string) (bool, error) {
	switch {
	case errors.Is(err, leadgridapi.ErrUnauthorized):
		return true, g.pause(ctx, Everything, Unauthorized,
			"LeadGrid refuses the API key (401): it is wrong, revoked or expired; set LEADGRID_API_KEY to a valid one"+request(err))
	case errors.Is(err, leadgridapi.ErrPlanRequired):
		return true, g.pause(ctx, Everything, PlanRequired,
			"LeadGrid says that the organization's plan has no API access (402): it needs the Growth plan"+request(err))
	case errors.Is(err, leadgridapi.ErrForbidden):
		for _, scope := range scopes {
			message := fmt.Sprintf("LeadGrid says that the API key may not do this (403): it lacks the scope %s, or the plan has no API access", scope)
			if err := g.pause(ctx, scope, Forbidden, message); err != nil {
				return true, err
			}
		}
		return true, nil
	}
	return false, nil
}

// request says which one LeadGrid refused: it may be refusing that one alone.
func request(err error) string {
	refusal, ok := errors.AsType[*leadgridapi.Error](err)
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (it refused %s %s)", refusal.Method, refusal.Path)
}

// Foreign closes the gate because the key reads another organization than the one mirrored.
func (g *Gate) Foreign(ctx context.Context) error {
	return g.pause(ctx, Everything, OtherOrganization,
		"the API key reads another organization than the one mirrored here: use that one's key, or another database")
}

func (g *Gate) pause(ctx context.Context, scope, reason, message string) error {
	defer g.forget()
	_, err := g.pool.Exec(ctx, `
		INSERT INTO sync_pauses (scope, reason, message, probe_at) VALUES ($1, $2, $3, now() + $4::interval)
		ON CONFLICT (scope) DO UPDATE SET reason = excluded.reason, message = excluded.message, probe_at = excluded.probe_at`,
		scope, reason, message, g.every)
	if err != nil {
		return fmt.Errorf("pause %s: %w", scope, err)
	}
	return nil
}

// Answered notes that LeadGrid answered a request that needed the scopes, which opens what a refusal had closed. It
// costs nothing while nothing is paused.
func (g *Gate) Answered(ctx context.Context, scopes ...string) error {
	return g.open(ctx, append(scopes, Everything), Unauthorized, PlanRequired, Forbidden)
}

// Proven notes that an answer was about the mirrored organization.
func (g *Gate) Proven(ctx context.Context) error {
	return g.open(ctx, []string{Everything}, OtherOrganization)
}

func (g *Gate) open(ctx context.Context, scopes []string, reasons ...string) error {
	pauses, err := g.current(ctx)
	if err != nil || len(pauses) == 0 {
		return err
	}
	defer g.forget()
	_, err = g.pool.Exec(ctx, `DELETE FROM sync_pauses WHERE scope = ANY ($1) AND reason = ANY ($2)`, scopes, reasons)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// ProbeNow makes every pause's next probe due at once: somebody is waiting, perhaps having just changed the key.
func (g *Gate) ProbeNow(ctx context.Context) error {
	defer g.forget()
	if _, err := g.pool.Exec(ctx, `UPDATE sync_pauses SET probe_at = now()`); err != nil {
		return fmt.Errorf("probe now: %w", err)
	}
	return nil
}
