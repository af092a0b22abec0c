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
// that its requests take, and its requests by the least that the contract allows. The first sync, whose budget has everything to
// learn, is reported by itself.
func BenchmarkLimit(b *testing.B) {
	const (
		limit  = 100
		window = 10 * time.Second
		pages  = 2 // of 150 rows
		pools  = 2 // each on one page
	)
	server := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{
		Limits: leadgridtest.Limits{Requests: limit, Window: window},
	}})
	b.Cleanup(server.Close)
	server.Seed(leadgridtest.Size{Dossiers: 150, Contacts: 150, Links: 150, Notes: 150})
	pool := pgtest.Own(b, postgres.Options{Durable: true})
	engine := work(b, pool, server)
	least := float64(1 + len(server.FlowIDs()) + pages + pages + pools + 2*len(server.DossierIDs()))
	sync := func() (relative, asked float64) {
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
		n := float64(len(requests))
		return took.Seconds() / (n / limit * window.Seconds()), n / least
	}
	firstTime, firstAsked := sync()
	var times, asked []float64
	for b.Loop() {
		t, n := sync()
		times, asked = append(times, t), append(asked, n)
	}
	ratio.Report(b, "×least", times)
	ratio.Report(b, "×least-requests", asked)
	ratio.Report(b, "×least-first", []float64{firstTime})
	ratio.Report(b, "×least-first-requests", []float64{firstAsked})
	b.ReportMetric(0, "ns/op")
}
