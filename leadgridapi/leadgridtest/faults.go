package leadgridtest

import "math/rand/v2"

// Fault is what goes wrong with one request.
type Fault string

// The faults of a request. [Options.OnRequest] may return one to break a particular request.
const (
	RateLimited Fault = "rate-limited"
	ErrorBefore Fault = "error-before"
	ErrorAfter  Fault = "error-after"
	BadGateway  Fault = "bad-gateway"
	HangBefore  Fault = "hang-before"
	HangAfter   Fault = "hang-after"
	ResetBefore Fault = "reset-before"
	ResetAfter  Fault = "reset-after"
	Truncated   Fault = "truncated"
	Slow        Fault = "slow"
	Healthy     Fault = "healthy" // whatever the probabilities say
)

// before reports whether the fault keeps the operation from being executed.
func (f Fault) before() bool {
	switch f {
	case ErrorBefore, BadGateway, HangBefore, ResetBefore:
		return true
	}
	return false
}

// silent reports whether the caller gets no answer.
func (f Fault) silent() bool {
	switch f {
	case HangBefore, HangAfter, ResetBefore, ResetAfter:
		return true
	}
	return false
}

// pick throws the dice for one request.
func (f *Faults) pick(rng *rand.Rand) Fault {
	p := rng.Float64()
	for _, choice := range []struct {
		p     float64
		fault Fault
	}{
		{f.RateLimited, RateLimited}, {f.ErrorBefore, ErrorBefore}, {f.ErrorAfter, ErrorAfter},
		{f.BadGateway, BadGateway}, {f.HangBefore, HangBefore}, {f.HangAfter, HangAfter},
		{f.ResetBefore, ResetBefore}, {f.ResetAfter, ResetAfter}, {f.Truncated, Truncated}, {f.Slow, Slow},
	} {
		if p < choice.p {
			return choice.fault
		}
		p -= choice.p
	}
	return ""
}

// dice gives each request random numbers that follow from the seed, from what is asked, and from how often
// it was asked before, not from what else was going on.
type dice struct {
	seed   uint64
	rolled map[uint64]uint64
}

func (d *dice) roll(what string) *rand.Rand {
	h := hash(what)
	if len(d.rolled) > 1<<20 {
		clear(d.rolled) // a server that runs for days need not remember every path
	}
	d.rolled[h]++
	return rand.New(rand.NewPCG(d.seed^h, d.rolled[h]))
}
