package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// BenchmarkScale compares a mirror of a million dossiers with one of ten thousand: the most memory that `worker run` ever had
// while it backfilled and while it swept what was unchanged, the time of a page of that sweep, and the time of an event. It
// takes minutes, and a gigabyte or two for the stand-in LeadGrid.
func BenchmarkScale(b *testing.B) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		b.Skip("only Linux tells how much memory a process has had")
	}
	small, large := newScale(b, 10_000), newScale(b, 1_000_000)
	const each = 300
	var times []float64
	for b.Loop() {
		s, l := small.events(b, each), large.events(b, each)
		b.Logf("time of an event: %v of 10,000 dossiers, %v of 1,000,000", s/each, l/each)
		times = append(times, l.Seconds()/s.Seconds())
	}
	ratio.Report(b, "×event-time", times)
	ratio.Report(b, "×page-time", []float64{large.page.Seconds() / small.page.Seconds()})
	ratio.Report(b, "×backfill-memory", []float64{float64(large.backfill) / float64(small.backfill)})
	ratio.Report(b, "×sweep-memory", []float64{float64(large.sweep) / float64(small.sweep)})
	b.ReportMetric(0, "ns/op")
}

// scale is a mirror of so many dossiers, and what it took.
type scale struct {
	*world
	dossiers        []string
	backfill, sweep int           // bytes of memory at most
	page            time.Duration // of a sweep over unchanged dossiers

	queue  *river.Client[pgx.Tx]
	intake *events.Intake
	turn   int
	asked  atomic.Int64 // pages of dossiers
	from   atomic.Int64 // when some of them were asked for, in Unix nanoseconds
	to     atomic.Int64
}

func newScale(b *testing.B, dossiers int) *scale {
	b.Helper()
	pages := int64(dossiers / 100)
	s := &scale{}
	own := pgtest.Own(b, postgres.Options{Durable: true})
	s.world = &world{pool: own, Server: leadgridtest.New(leadgridtest.Options{
		LedgerSize: 10, Settings: leadgridtest.Settings{Limits: leadgridtest.Limits{Requests: 1 << 40}},
		OnRequest: func(request leadgridtest.Request) (none leadgridtest.Fault) {
			if request.Operation == "dossiers.list" {
				switch s.asked.Add(1) {
				case pages / 10:
					s.from.Store(request.Time.UnixNano())
				case pages - pages/10:
					s.to.Store(request.Time.UnixNano())
				}
			}
			return none
		},
	})}
	b.Cleanup(s.Close)
	s.Seed(leadgridtest.Size{Dossiers: dossiers, Contacts: 100})
	for id := range s.Snapshot()["dossiers"] {
		s.dossiers = append(s.dossiers, id)
	}
	inserter, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{Schema: pgtest.Schemas.Queue, FetchCooldown: river.FetchCooldownMin})
	if err != nil {
		b.Fatal(err)
	}
	s.queue, s.intake = inserter, events.NewIntake(s.pool, inserter, events.Options{})
	b.Cleanup(s.intake.Close)
	s.env = map[string]string{
		"DATABASE_URL": own.Config().ConnString(), "LEADGRID_BASE_URL": s.URL(), "LEADGRID_API_KEY": s.Key(), "LEADGRID_LAG": "1s",
		"ADMIN_ADDR": "127.0.0.1:0", "LOG_FORMAT": "json", "SWEEP_INTERVAL": "off",
	}
	first := s.start(b)
	took := s.sweeps(b)
	s.backfill = memory(b, first)
	first.stop(b, syscall.SIGTERM)
	if _, err := s.pool.Exec(b.Context(), `VACUUM ANALYZE`); err != nil {
		b.Fatal(err)
	}
	second := s.start(b)
	var again time.Duration
	for range max(1, 300_000/dossiers) { // memory settles with pages read, however many dossiers there are
		s.asked.Store(0)
		again = s.sweeps(b)
		s.page = time.Duration(s.to.Load()-s.from.Load()) / time.Duration(pages-2*(pages/10))
	}
	s.sweep = memory(b, second)
	b.Logf("%d dossiers: backfill in %v with %d MiB at most, unchanged in %v with %d MiB, a page in %v",
		dossiers, took.Round(time.Millisecond), s.backfill>>20, again.Round(time.Millisecond), s.sweep>>20, s.page)

	return s
}

// sweeps sweeps the dossiers, and says how long that took.
func (s *scale) sweeps(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	var id int64
	err := pgx.BeginFunc(b.Context(), s.pool, func(tx pgx.Tx) (err error) {
		id, err = jobs.RequestSweep(b.Context(), tx, s.queue, sweep.Full, []string{"dossiers"}, false)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for {
		var state, message string
		err := s.pool.QueryRow(b.Context(), `SELECT state, coalesce(message, '') FROM sync_sweeps WHERE id = $1`, id).Scan(&state, &message)
		if err != nil || state == string(sweep.Stopped) {
			b.Fatal(state, message, err)
		}
		if state == string(sweep.Done) {
			return time.Since(began)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// memory is the most that a program ever had in memory.
func memory(b *testing.B, r *running) int {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	kilobytes, err := strconv.Atoi(string(peak.FindSubmatch(status)[1]))
	if err != nil {
		b.Fatal(err)
	}
	return kilobytes << 10
}

// events changes n dossiers here and there, and says how long it takes from the first event until all rows are right.
func (s *scale) events(b *testing.B, n int) time.Duration {
	b.Helper()
	bodies := make([][]byte, n)
	for i := range bodies {
		s.turn++
		id := s.dossiers[s.turn*7919%len(s.dossiers)]
		if err := s.UpdateDossier(id, leadgridtest.Fields{"phone": fmt.Sprint("turn ", s.turn)}); err != nil {
			b.Fatal(err)
		}
		bodies[i] = fmt.Appendf(nil, `{"id":"evt_%d","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":%q}}`, s.turn, id)
	}
	began := time.Now()
	var adding errgroup.Group
	for _, body := range bodies {
		adding.Go(func() error {
			_, err := s.intake.Add(b.Context(), events.Received{Body: body, At: time.Now()})
			return err
		})
	}
	if err := adding.Wait(); err != nil {
		b.Fatal(err)
	}
	for waiting := true; waiting; time.Sleep(5 * time.Millisecond) {
		if err := s.pool.QueryRow(b.Context(), `SELECT EXISTS (SELECT FROM sync_flushes WHERE done_at IS NULL)`).Scan(&waiting); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}
