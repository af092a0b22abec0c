package simulate_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// BenchmarkLimit measures how much of an announced limit the whole engine uses (promise 8): the time of a full sync by the least
// that its requests take. The first, with a budget that has everything to learn, is logged; those after it count.
func BenchmarkLimit(b *testing.B) {
	const (
		limit  = 100
		window = 10 * time.Second
	)
	server := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{
		Limits: leadgridtest.Limits{Requests: limit, Window: window},
	}})
	b.Cleanup(server.Close)
	server.Seed(leadgridtest.Size{Dossiers: 150, Contacts: 150, Links: 150, Notes: 150})
	pool := pgtest.Own(b, postgres.Options{Durable: true})
	engine := work(b, pool, server)
	sync := func() float64 {
		before := len(server.Ledger())
		fullSync(b, pool, engine)
		requests := server.Ledger()[before:]
		took := requests[len(requests)-1].Time.Sub(requests[0].Time)
		refused := 0
		for _, request := range requests {
			if request.Status == http.StatusTooManyRequests {
				refused++
			}
		}
		b.Logf("%d requests in %v, %d refused", len(requests), took.Round(time.Second), refused)
		return took.Seconds() / (float64(len(requests)) / limit * window.Seconds())
	}
	b.Logf("with everything to learn %.3f times the least", sync())
	var rounds []float64
	for b.Loop() {
		rounds = append(rounds, sync())
	}
	ratio.Report(b, "×least", rounds)
	b.ReportMetric(0, "ns/op")
}
