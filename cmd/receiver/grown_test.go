package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
)

// BenchmarkReceiverGrown compares what an event costs, and how much memory the receiver has, beside few events that are
// stored already and beside many.
func BenchmarkReceiverGrown(b *testing.B) {
	const few, many = 10_000, 1_000_000
	type database struct {
		pool     *pgxpool.Pool
		receiver *benchReceiver
		loads    []load
		memory   []float64
	}
	databases := map[int]*database{}
	for _, rows := range []int{few, many} {
		pool, url := benchServer(b)
		databases[rows] = &database{pool: pool, receiver: startBenchReceiver(b, storeOurs, url)}
		fill(b, pool, rows)
	}
	for b.Loop() {
		fill(b, databases[few].pool, few) // a round brings more than that
		for _, rows := range []int{few, many} {
			d := databases[rows]
			d.loads = append(d.loads, d.receiver.watch(b, d.pool, func() load {
				return d.receiver.load(b, 64, 2*time.Second, 0, func() int64 { return benchEvents.Add(1) })
			}))
			d.memory = append(d.memory, memory(b, d.receiver.pid))
		}
	}
	for _, rows := range []int{few, many} {
		logLoads(b, strconv.Itoa(rows), databases[rows].loads)
		b.Logf("%d: %.1f MiB", rows, ratio.Median(databases[rows].memory))
	}
	ratio.Report(b, "×cost", ratio.Of(databases[many].loads, databases[few].loads, load.time))
	ratio.Report(b, "×memory", ratio.Of(databases[many].memory, databases[few].memory, func(m float64) float64 { return m }))
	b.ReportMetric(0, "ns/op")
}

// fill leaves so many events in the table, as if they had come ten at a time.
func fill(b *testing.B, pool *pgxpool.Pool, rows int) {
	empty(b, pool)
	for _, sql := range []string{
		fmt.Sprintf(`INSERT INTO webhook_events (digest, id, type, created_at, dossier_id, payload, flush)
			SELECT sha256(n::text::bytea), 'evt_' || n, 'dossier.updated', now(), 'dos_' || n %% 10000,
			       jsonb_build_object('id', 'evt_' || n, 'type', 'dossier.updated', 'data', jsonb_build_object('intake_notes', repeat('x', 500))), n / 10
			FROM generate_series(1, %d) AS n`, rows),
		`INSERT INTO sync_flushes (flush, events, done_at) SELECT flush, count(*), now() FROM webhook_events GROUP BY flush`,
		`SELECT setval('observations', (SELECT max(flush) + 1 FROM webhook_events))`,
		`VACUUM ANALYZE webhook_events, sync_flushes`,
		`CHECKPOINT`,
	} {
		if _, err := pool.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
}

var residentSize = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// memory is what a process has in memory, in MiB.
func memory(b *testing.B, pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	kilobytes, err := strconv.Atoi(string(residentSize.FindSubmatch(status)[1]))
	if err != nil {
		b.Fatal(err)
	}
	return float64(kilobytes) / 1024
}
