// Package access knows whether LeadGrid may be asked at all. A refused key, a plan without API access or a key of another
// organization pauses everything; a missing scope pauses what needs it. One replica at a time probes a paused scope now and
// then, and the first success ends the pause. Start reading at Gate.
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

// PausedError means that nothing was sent because LeadGrid refuses this key. It says when LeadGrid will be asked again.
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
	probed time.Time // when a request of this process was last let through as a probe
}

// proofTime is for how long after a probe a request may follow that shows which organization has answered it.
const proofTime = 10 * time.Second

// New returns a gate that keeps its state through pool; every is the time between two probes of a paused scope,
// 0 for a minute.
func New(pool *pgxpool.Pool, every time.Duration) *Gate {
	return &Gate{pool: pool, every: cmp.Or(every, time.Minute)}
}

// Check returns nil if a request that needs the scopes may be sent, otherwise a *PausedError. When a probe is due, the first
// caller gets nil, and the others the error until that caller's request has succeeded.
func (g *Gate) Check(ctx context.Context, scopes ...string) error { return g.check(ctx, false, scopes) }

// CheckProof is Check for a request that shows which organization answers. It may follow a probe at once: if the probe read
// nothing that the mirror knows, it does not open the gate that Foreign has closed.
func (g *Gate) CheckProof(ctx context.Context, scopes ...string) error {
	return g.check(ctx, true, scopes)
}

func (g *Gate) check(ctx context.Context, proof bool, scopes []string) error {
	pauses, err := g.current(ctx)
	if err != nil {
		return err
	}
	for _, pause := range pauses {
		if !concerns(pause.Scope, scopes) || proof && pause.Reason == OtherOrganization && g.hasProbed() {
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

// claimProbe returns true for one caller per interval, among all replicas.
func (g *Gate) claimProbe(ctx context.Context, scope string) (bool, error) {
	tag, err := g.pool.Exec(ctx,
		`UPDATE sync_pauses SET probe_at = now() + $2::interval WHERE scope = $1 AND probe_at <= now()`, scope, g.every)
	if err != nil {
		return false, fmt.Errorf("claim probe: %w", err)
	}
	claimed := tag.RowsAffected() == 1
	if claimed {
		g.mu.Lock()
		g.probed = time.Now()
		g.mu.Unlock()
	}
	return claimed, nil
}

func (g *Gate) hasProbed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.probed) < proofTime
}

// current returns the pauses as they were at most a second ago.
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

// Pauses lists the reasons why LeadGrid is not asked at the moment.
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

// Refused closes the gate if err is a refusal: 401 and 402 for everything, 403 for the scopes that the request needed. It
// reports whether err was one.
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

// request names the request that LeadGrid refused: it may be the only one it refuses.
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

// Answered opens the gate for the scopes: LeadGrid has just answered a request that needed them. It costs nothing while nothing
// is paused.
func (g *Gate) Answered(ctx context.Context, scopes ...string) error {
	return g.open(ctx, append(scopes, Everything), Unauthorized, PlanRequired, Forbidden)
}

// Proven opens the gate that Foreign has closed: an answer came from the mirrored organization.
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

// ProbeNow makes the next probe of every pause due at once, for somebody who may just have changed the key.
func (g *Gate) ProbeNow(ctx context.Context) error {
	defer g.forget()
	if _, err := g.pool.Exec(ctx, `UPDATE sync_pauses SET probe_at = now()`); err != nil {
		return fmt.Errorf("probe now: %w", err)
	}
	return nil
}
