package simulate_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// BenchmarkUnseenChange measures in accelerated time how long after its beginning a scheduled sweep shows a change that no
// webhook told of: 10,000 dossiers, of which 200 changed lately, and 15,000 contacts, under limits of 60 and of 300 requests a
// minute. A minute takes two seconds, for LeadGrid's window, the interval of sweeps and the rotation alike; results are in
// minutes.
func BenchmarkUnseenChange(b *testing.B) {
	const faster = 30
	server := leadgridtest.New(leadgridtest.Options{LedgerSize: 10})
	b.Cleanup(server.Close)
	server.Seed(leadgridtest.Size{Dossiers: 10_000, Contacts: 15_000, Links: 15_000, Notes: 20_000})
	pool := pgtest.Own(b, postgres.Options{})
	engine := workWith(b, pool, server, sweep.Options{Interval: time.Hour / faster, Rotation: 168 * time.Hour / faster})
	sweepThrough(b, pool, engine, sweep.Full, func() {})
	exec(b, pool, `UPDATE dossiers SET _changed_at = now() - interval '30 days' WHERE id NOT IN (SELECT id FROM dossiers LIMIT 200)`)
	exec(b, pool, `ANALYZE`)
	for _, limit := range []int{60, 300} {
		b.Run(fmt.Sprintf("%d a minute", limit), func(b *testing.B) {
			server.Change(func(s *leadgridtest.Settings) { s.Limits.Requests, s.Limits.Window = limit, time.Minute/faster })
			sweepThrough(b, pool, engine, sweep.Scheduled, func() {}) // from which the budget learns
			var seen, took []time.Duration
			for b.Loop() {
				exec(b, pool, `UPDATE sync_sweeps SET started_at = started_at - $1::interval`, time.Hour/faster)
				ids := server.DossierIDs()
				role := fmt.Sprint(time.Now().UnixNano())
				for i := range 10 {
					if err := server.UpdateDossier(ids[i*len(ids)/10], leadgridtest.Fields{"role": role}); err != nil {
						b.Fatal(err)
					}
				}
				began, found := time.Now(), 0
				s := sweepThrough(b, pool, engine, sweep.Scheduled, func() {
					var n int
					if err := pool.QueryRow(b.Context(), `SELECT count(*) FROM dossiers WHERE role = $1`, role).Scan(&n); err != nil {
						b.Fatal(err)
					}
					for ; found < n; found++ {
						seen = append(seen, time.Since(began))
					}
				})
				took = append(took, time.Since(began))
				if found < 10 {
					b.Errorf("the sweep showed %d of 10 changes", found)
				}
				b.Logf("%d requests", s.Requests)
			}
			b.ReportMetric(slices.Max(seen).Minutes()*faster, "min-to-be-seen")
			b.ReportMetric(slices.Max(took).Minutes()*faster, "min/sweep")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}
