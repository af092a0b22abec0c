package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// naiveArgs is the obvious receiver: the event itself is the job.
type naiveArgs struct {
	Event json.RawMessage `json:"event"`
}

func (naiveArgs) Kind() string { return "naive_event" }

// BenchmarkReceiver compares acked events a second, and how long an ack takes, of one receiver with three ways to store:
// ours, one River Insert per request, and none. The variants take turns in short rounds, because the machine's own speed
// drifts: only the ratios mean anything, of which it reports the medians.
func BenchmarkReceiver(b *testing.B) {
	rounds, length := 5, 2*time.Second
	if s := os.Getenv("BENCH_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	pool, inserter := benchDatabase(b)
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	intake := events.NewIntake(pool, inserter, events.Options{})
	b.Cleanup(intake.Close)
	variants := []struct {
		name  string
		store func(context.Context, events.Received) (events.Stored, error)
	}{
		{"ours", intake.Add},
		{"naive", naiveStore(inserter)},
		{"none", func(context.Context, events.Received) (events.Stored, error) { return events.Stored{}, nil }},
	}
	var addresses []string
	for _, v := range variants {
		addresses = append(addresses, serveBench(b, v.store, log))
	}
	for _, connections := range []int{64, 256} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			results := make([][]load, len(variants))
			for b.Loop() { // once is enough: ask for -benchtime=1x
				for range rounds {
					for i := range variants {
						results[i] = append(results[i], closedLoop(b, addresses[i], connections, length))
						emptyTables(b, pool)
					}
				}
			}
			for i, v := range variants {
				b.Logf("%-6s %8.0f acked/s  p50 %6.2f ms  p99 %6.2f ms", v.name, median(results[i], load.rate),
					median(results[i], quantile(.50)), median(results[i], quantile(.99)))
			}
			b.ReportMetric(medianRatio(results[0], results[1], load.rate), "×naive")
			b.ReportMetric(medianRatio(results[0], results[2], load.rate), "×none")
			b.ReportMetric(medianRatio(results[0], results[1], quantile(.99)), "×naive-p99")
		})
	}
}

func naiveStore(inserter *river.Client[pgx.Tx]) func(context.Context, events.Received) (events.Stored, error) {
	return func(ctx context.Context, received events.Received) (events.Stored, error) {
		_, err := inserter.Insert(ctx, naiveArgs{Event: received.Body}, nil)
		return events.Stored{}, err
	}
}

func serveBench(b *testing.B, store func(context.Context, events.Received) (events.Stored, error), log *slog.Logger) string {
	secrets, err := newSecrets(settings.Webhook{Secret: settings.NewSecret(testSecret), Tolerance: leadgridapi.DefaultTolerance}, log)
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := newServer(&webhooks{
		secrets: secrets, store: store, bodies: newBodies(), metrics: newMetrics(prometheus.NewRegistry()), log: log,
	}, log)
	go server.Serve(listener)
	b.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// load is what one round did.
type load struct {
	took time.Duration
	acks []time.Duration // sorted
}

func (l load) rate() float64 { return float64(len(l.acks)) / l.took.Seconds() }

func quantile(q float64) func(load) float64 {
	return func(l load) float64 { return float64(l.acks[int(q*float64(len(l.acks)-1))].Microseconds()) / 1000 }
}

var benchEvents atomic.Int64

// closedLoop has every connection send its next event as soon as the last was acked, with as little work of its own as
// possible: it shares the processors with what it measures.
func closedLoop(b *testing.B, address string, connections int, length time.Duration) load {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		all   load
		began = time.Now()
	)
	for range connections {
		group.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			var acks []time.Duration
			answers := bufio.NewReaderSize(conn, 1024)
			for time.Since(began) < length {
				request := benchRequest()
				sent := time.Now()
				if err := exchange(conn, answers, request); err != nil {
					b.Error(err)
					return
				}
				acks = append(acks, time.Since(sent))
			}
			mu.Lock()
			all.acks = append(all.acks, acks...)
			mu.Unlock()
		})
	}
	group.Wait()
	all.took = time.Since(began)
	slices.Sort(all.acks)
	return all
}

var benchFilling = strings.Repeat("a word or two on this candidate; ", 12)

func benchRequest() []byte {
	body := fmt.Appendf(nil, `{"id":"evt_%010d","type":"dossier.updated","created_at":"2026-05-01T10:00:00Z","data":{"id":"dos_%d",`+
		`"type":"candidate","name":"Jan Jansen","city":"Gent","status":"active","intake_notes":%q}}`,
		benchEvents.Add(1), benchEvents.Load()%1000, benchFilling)
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s: %s\r\n\r\n%s",
		webhooksPath, len(body), leadgridapi.SignatureHeader, leadgridapi.Sign(testSecret, time.Now(), body), body)
}

// exchange sends a request and reads its answer, which must be 200.
func exchange(conn net.Conn, answers *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	status, err := answers.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %q", status)
	}
	length := 0
	for {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err = answers.Discard(length)
			return err
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
}

func median(rounds []load, of func(load) float64) float64 {
	var values []float64
	for _, r := range rounds {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func medianRatio(ours, theirs []load, of func(load) float64) float64 {
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, of(ours[i])/of(theirs[i]))
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func emptyTables(b *testing.B, pool *pgxpool.Pool) {
	_, err := pool.Exec(b.Context(), `TRUNCATE webhook_events, sync_flushes, leadgrid_queue.river_job`)
	if err != nil {
		b.Fatal(err)
	}
}

func benchDatabase(b *testing.B) (*pgxpool.Pool, *river.Client[pgx.Tx]) {
	config := testConfig(os.Getenv("BENCH_DATABASE_URL"))
	config.MaxConns = 32
	pool, err := openPool(b.Context(), config.Database)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	if err := migrations.Up(b.Context(), pool.Config().ConnConfig, config.schemas()); err != nil {
		b.Fatal(err)
	}
	inserter, err := newInserter(pool, config.QueueSchema, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	return pool, inserter
}
