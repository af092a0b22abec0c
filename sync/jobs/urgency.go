package jobs

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

const (
	usualShare = 0.10 // of the budget, guaranteed to sweeps
	mostShare  = 0.50 // however overdue they are
	// lookEvery is how often to look how overdue they are.
	lookEvery = 10 * time.Second
)

// urgency is the share of the budget that sweeps are guaranteed: more when one is overdue. Every replica looks for itself,
// so that all ask for the same share.
type urgency struct {
	pool     *pgxpool.Pool
	interval time.Duration
	log      *slog.Logger
	bits     atomic.Uint64
}

// share is what the last look came to.
func (u *urgency) share() float64 { return math.Float64frombits(u.bits.Load()) }

// look works out the share anew. A database that does not answer leaves it as it was.
func (u *urgency) look(ctx context.Context) {
	waited, err := sweep.LongestOpen(ctx, u.pool)
	if err != nil {
		u.log.WarnContext(ctx, "cannot tell whether a sweep is overdue", "error", err)
		return
	}
	u.bits.Store(math.Float64bits(shareAfter(waited, u.interval)))
}

func (u *urgency) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			u.look(ctx)
		}
	}
}

// shareAfter rises by the usual share for each interval that a sweep is late: it should end before the next one is due.
func shareAfter(waited, interval time.Duration) float64 {
	late := max(0, float64(waited)/float64(interval)-1)
	return min(usualShare*(1+late), mostShare)
}
