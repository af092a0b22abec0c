package budget

import (
	"context"
	"time"
)

// Status is the shared budget as ops want to see it.
type Status struct {
	// Limit and Remaining are as LeadGrid last announced them; Limit is 0 if it never did.
	Limit, Remaining int
	// ReadAt is when Remaining was announced.
	ReadAt time.Time
	// Window is what the limit is per, 0 if that is not known yet.
	Window time.Duration
	// BlockedUntil is until when LeadGrid asked to send nothing, zero if it does not, and BlockedWhy the reason.
	BlockedUntil time.Time
	BlockedWhy   string
	// Refusals counts the refusals (429) ever met.
	Refusals int64
	// Pace is how many requests a second may be sent now.
	Pace float64
	// Used counts the requests allowed ever, and Guaranteed is the part of the pace that is kept, per share.
	Used       map[Share]int64
	Guaranteed map[Share]float64
	// Replicas is how many replicas hold tokens or have requests under way.
	Replicas int
}

// Status reads the shared budget from the database, so that any process can show it.
func (b *Budget) Status(ctx context.Context) (Status, error) {
	got, err := readState(ctx, b.pool)
	if err != nil {
		return Status{}, err
	}
	return got.state.status(got.now), nil
}

func (s *state) status(now time.Time) Status {
	status := Status{
		Limit: s.Limit, Remaining: s.Reading.Remaining, ReadAt: s.Reading.Answered, Window: s.Window,
		Refusals: s.Refusals, Pace: s.pace(now),
		Used: map[Share]int64{}, Guaranteed: map[Share]float64{}, Replicas: len(s.Leases),
	}
	if s.blocked(now) {
		status.BlockedUntil, status.BlockedWhy, status.Pace = s.BlockedUntil, s.BlockedWhy, 0
	}
	for c := range shares {
		status.Used[c], status.Guaranteed[c] = s.Used[c], s.part(c)
	}
	return status
}
