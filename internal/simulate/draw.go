package simulate

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// drawn sets the draws of a seed apart from all others'.
const drawn = 0x6c656164

// Limited tells whether a seed has a rate limit, and so takes long: whoever plays many plays these first.
func Limited(seed uint64) bool {
	return drawSettings(rand.New(rand.NewPCG(seed, drawn))).Limits.Window > 0
}

func drawSettings(rng *rand.Rand) leadgridtest.Settings {
	return leadgridtest.Settings{Habits: drawHabits(rng), Faults: drawFaults(rng), Limits: drawLimits(rng)}
}

func oneOf[T any](rng *rand.Rand, values ...T) T { return values[rng.IntN(len(values))] }

func chance(rng *rand.Rand, p float64) bool { return rng.Float64() < p }

// drawHabits draws every switch of the stand-in that a mirror can live with. Left out are those that end a run by design
// (redirects, plan and scope refusals) and waits that would take minutes.
func drawHabits(rng *rand.Rand) leadgridtest.Habits {
	h := leadgridtest.Habits{
		IDs:            oneOf(rng, "uuid", "short", "awkward"),
		HideArchived:   chance(rng, 0.5),
		Order:          oneOf(rng, "oldest", "newest", "updated", "updated-oldest", "random", "unstable"),
		PastEnd:        oneOf(rng, "empty", "not-found", "repeat"),
		PerPage:        oneOf(rng, "clamped", "clamped", "clamped", "fixed"),
		SubLists:       oneOf(rng, "paged", "whole", "repeated", "stuck"),
		MetaTotal:      oneOf(rng, "exact", "exact", "drifting", "missing", "none"),
		OmitNulls:      chance(rng, 0.3),
		RetryAfter:     oneOf(rng, "seconds", "date"),
		RateHeaders:    oneOf(rng, "exact", "absent", "wrong", "rubbish"),
		WebhookData:    oneOf(rng, "whole", "ids", "nested"),
		AnonymousNotes: chance(rng, 0.2),
		Redelivery:     oneOf(rng, "signed-anew", "new-id", "verbatim", "never"),
		UnknownEvents:  chance(rng, 0.3),
		UnknownFields:  chance(rng, 0.3),
		Timestamps:     oneOf(rng, "millis", "seconds", "micros", "nanos", "offset", "postgres", "mixed"),
	}
	if chance(rng, 0.2) {
		h.MaxPerPage = oneOf(rng, 10, 25, 50)
	}
	if h.MaxPerPage == 10 || h.PerPage == "fixed" && h.PastEnd == "not-found" {
		h.MetaPerPage = "asked"
	}
	if chance(rng, 0.4) {
		for _, key := range leadgridtest.ThinRows {
			if chance(rng, 0.6) {
				h.ListOmits = append(h.ListOmits, key)
			}
		}
	}
	for _, key := range []string{"dossiers.organization_id", "dossiers.flow_id", "dossiers.updated_at", "dossiers.city"} {
		if chance(rng, 0.3) {
			h.Omits = append(h.Omits, key)
		}
	}
	for _, change := range []string{"field", "stage", "restore", "cv", "archive", "link", "note"} {
		if chance(rng, 0.5) {
			h.UpdatedOn = append(h.UpdatedOn, change)
		}
	}
	if chance(rng, 0.4) {
		h.ReplicaLag, h.ReplicaShare = lag-10*time.Millisecond, rng.Float64()
	}
	return h
}

// pageOf is how many rows a page holds at most.
func pageOf(habits leadgridtest.Habits) int { return cmp.Or(habits.MaxPerPage, 100) }

// drawSize makes most lists of contacts longer than a page, as each costs but one request a page; dossiers cost two requests
// each, and so do contacts of which lists hide fields.
func drawSize(rng *rand.Rand, habits leadgridtest.Habits, scale int) leadgridtest.Size {
	size := leadgridtest.Size{Dossiers: 3 + rng.IntN(8*scale), Contacts: 4 + rng.IntN(15*scale), Odd: rng.Float64() * 0.5}
	page := pageOf(habits)
	switch n := rng.IntN(40); {
	case n == 0 || n < 10 && page < 30:
		size.Dossiers += page - 5
	case n < 10: // all small, and quick
	case len(habits.ListOmits) == 0:
		size.Contacts += page - 10 + rng.IntN(page*(1+scale)/2)
	case n < 16:
		size.Contacts += page - 10
	}
	size.Links, size.Notes = rng.IntN(15*scale), rng.IntN(15*scale)
	return size
}

func drawFaults(rng *rand.Rand) leadgridtest.Faults {
	p := func(most float64) float64 {
		if chance(rng, 0.5) {
			return 0
		}
		return rng.Float64() * most
	}
	return leadgridtest.Faults{
		ErrorBefore: p(0.03), BadGateway: p(0.02), ResetBefore: p(0.02), ResetAfter: p(0.02), Truncated: p(0.03),
		HangBefore: p(0.01), Slow: p(0.3), HangFor: 50 * time.Millisecond, SlowFor: 30 * time.Millisecond,
		WebhookDropped: p(0.5), WebhookDoubled: p(0.5), WebhookReordered: p(0.5), WebhookDelayed: p(0.5),
		WebhookDelay: 200 * time.Millisecond,
	}
}

// drawLimits draws a rate limit that is met now and then, with windows short enough to sit out.
func drawLimits(rng *rand.Rand) leadgridtest.Limits {
	limits := leadgridtest.Limits{WebhookBackoff: 20 * time.Millisecond, WebhookConcurrency: oneOf(rng, 1, 8)}
	if chance(rng, 0.3) {
		limits.Window, limits.Requests = 2*time.Second, 80+rng.IntN(160)
	}
	return limits
}
