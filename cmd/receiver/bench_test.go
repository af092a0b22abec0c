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
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// The benchmark's receivers are processes of their own, so that their processor time can be told from the load's: this
// program again, with these variables naming how to store and where.
const (
	benchStore    = "RECEIVER_BENCH_STORE"
	benchDatabase = "RECEIVER_BENCH_DATABASE"

	// benchProfile, if set, is a folder for a profile of each receiver's processor time: ours.pprof and so on.
	benchProfile = "RECEIVER_BENCH_PROFILE"
)

const (
	storeOurs        = "ours"
	storeNaive       = "naive"  // one River Insert per request
	storeNaiveUnique = "unique" // the same, so that duplicates are not inserted again
	storeNone        = "none"   // no database at all
	storeDrain       = "drain"  // no receiver: a worker that takes the jobs of all of them
)

// BenchmarkReceiver compares receivers that differ in how they store, everything else being the same: acked events a second,
// how long an ack takes, and processor time of receiver and Postgres per event. They take turns in short rounds,
// because the machine's own speed drifts: only the ratios of a round mean anything, and the medians of those are reported.
//
//	go test ./cmd/receiver -run '^$' -bench Receiver -benchtime 5x     (five rounds)
func BenchmarkReceiver(b *testing.B) {
	pool, url := benchServer(b)
	receivers := map[string]*benchReceiver{}
	for _, store := range []string{storeOurs, storeNaive, storeNaiveUnique, storeNone} {
		receivers[store] = startBenchReceiver(b, store, url)
	}
	const round = 2 * time.Second
	for _, connections := range []int{64, 256} {
		for _, fresh := range []bool{true, false} {
			name, theNaive := fmt.Sprintf("connections=%d", connections), storeNaive
			if !fresh {
				name, theNaive = name+"/duplicates", storeNaiveUnique
			}
			variants := []string{storeOurs, theNaive, storeNone}
			b.Run(name, func(b *testing.B) {
				results := map[string][]load{}
				for b.Loop() {
					for _, store := range variants {
						results[store] = append(results[store], receivers[store].measure(b, pool, connections, round, fresh))
					}
				}
				for _, store := range variants {
					logLoads(b, store, results[store])
				}
				ours, naive, none := results[storeOurs], results[theNaive], results[storeNone]
				ratio.Report(b, "×naive", ratio.Of(ours, naive, load.rate))
				ratio.Report(b, "×none", ratio.Of(ours, none, load.rate))
				ratio.Report(b, "×naive-p99", ratio.Of(ours, naive, quantile(.99)))
				ratio.Report(b, "×naive-cpu", ratio.Of(ours, naive, load.time))
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkReceiverOffered compares how long an ack takes when events come at a rate of their own, whether or not the
// receiver keeps up, and a worker drains the queue beside it. An ack's time counts from when its event was due.
func BenchmarkReceiverOffered(b *testing.B) {
	const (
		rate        = 2000 // a second
		connections = 64
		round       = 3 * time.Second
	)
	pool, url := benchServer(b)
	startBenchReceiver(b, storeDrain, url)
	receivers := map[string]*benchReceiver{}
	results := map[string][]load{}
	stores := []string{storeOurs, storeNaive}
	for _, store := range stores {
		receivers[store] = startBenchReceiver(b, store, url)
	}
	next := func() int64 { return benchEvents.Add(1) }
	for b.Loop() {
		for _, store := range stores {
			empty(b, pool)
			results[store] = append(results[store], receivers[store].load(b, connections, round, rate, next))
		}
	}
	for _, store := range stores {
		b.Logf("%-6s %8.0f acked/s of %d  p50 %6.2f ms  p99 %6.2f ms", store,
			median(results[store], load.rate), rate, median(results[store], quantile(.50)), median(results[store], quantile(.99)))
	}
	ratio.Report(b, "×naive-p99", ratio.Of(results[storeOurs], results[storeNaive], quantile(.99)))
	b.ReportMetric(0, "ns/op")
}

// flushWorker and naiveWorker do what costs the queue and the events' table: they take a job, and read what it is about.
type flushWorker struct {
	river.WorkerDefaults[events.FlushArgs]
	pool *pgxpool.Pool
}

func (w *flushWorker) Work(ctx context.Context, job *river.Job[events.FlushArgs]) error {
	rows, err := w.pool.Query(ctx, `SELECT payload FROM webhook_events
		WHERE flush = (SELECT flush FROM webhook_events WHERE digest = decode($1, 'hex'))`, job.Args.Event)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
	return err
}

type naiveWorker struct {
	river.WorkerDefaults[naiveArgs]
}

func (*naiveWorker) Work(context.Context, *river.Job[naiveArgs]) error { return nil }

// drain works on the queue until its standard input ends.
func drain(pool *pgxpool.Pool, queueSchema string) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, &flushWorker{pool: pool})
	river.AddWorker(workers, &naiveWorker{})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: queueSchema, Workers: workers, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{
			events.Queue:       {MaxWorkers: 8, FetchCooldown: time.Millisecond},
			river.QueueDefault: {MaxWorkers: 100, FetchCooldown: time.Millisecond},
		},
	})
	if err != nil {
		return err
	}
	if err := client.Start(context.Background()); err != nil {
		return err
	}
	fmt.Println("draining")
	if _, err = io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return client.Stop(context.Background())
}

// naiveArgs is the obvious receiver: the event itself is the job.
type naiveArgs struct {
	ID    string          `json:"id" river:"unique"`
	Event json.RawMessage `json:"event"`
}

func (naiveArgs) Kind() string { return "naive_event" }

func naiveStore(inserter *river.Client[pgx.Tx], unique bool) storeFunc {
	return func(ctx context.Context, received events.Received) (events.Stored, error) {
		var named struct{ ID, Type string }
		if err := json.Unmarshal(received.Body, &named); err != nil {
			return events.Stored{}, err
		}
		inserted, err := inserter.Insert(ctx, naiveArgs{ID: named.ID, Event: received.Body},
			&river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: unique}})
		if err != nil {
			return events.Stored{}, err
		}
		return events.Stored{ID: named.ID, Type: named.Type, Duplicate: inserted.UniqueSkippedAsDuplicate}, nil
	}
}

// serveBench is the process of one receiver. It ends with its standard input.
func serveBench(store string) error {
	collectLess()
	config := testConfig(os.Getenv(benchDatabase))
	config.MaxConns = 10 // the programs' default
	log := slog.New(slog.DiscardHandler)
	secrets, err := newSecrets(config.Webhook, log)
	if err != nil {
		return err
	}
	pool, err := openPool(context.Background(), config.Database)
	if err != nil {
		return err
	}
	if store == storeDrain {
		return drain(pool, config.QueueSchema)
	}
	inserter, err := newInserter(pool, config.QueueSchema, log)
	if err != nil {
		return err
	}
	h := &webhooks{secrets: secrets, bodies: newBodies(), metrics: newMetrics(prometheus.NewRegistry()), log: log}
	switch store {
	case storeOurs:
		h.store = events.NewIntake(pool, inserter, events.Options{Flushed: h.metrics.flushed}).Add
	case storeNaive, storeNaiveUnique:
		h.store = naiveStore(inserter, store == storeNaiveUnique)
	case storeNone:
		h.store = func(context.Context, events.Received) (events.Stored, error) { return events.Stored{}, nil }
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if folder := os.Getenv(benchProfile); folder != "" {
		file, err := os.Create(filepath.Join(folder, store+".pprof"))
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	go newServer(h, log).Serve(listener)
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

type benchReceiver struct {
	address string
	pid     int
	webhook func() *webhook // what it is sent, for each connection
}

func startBenchReceiver(b *testing.B, store, url string) *benchReceiver {
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), benchStore+"="+store, benchDatabase+"="+url)
	return startBenchProcess(b, cmd)
}

// startBenchProcess starts a receiver that prints its address and ends with its standard input.
func startBenchProcess(b *testing.B, cmd *exec.Cmd) *benchReceiver {
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &benchReceiver{address: strings.TrimSpace(address), pid: cmd.Process.Pid, webhook: benchWebhook}
}

// benchServer starts a Postgres as production has it, durable, unless RECEIVER_BENCH_DATABASE names one.
func benchServer(b *testing.B) (*pgxpool.Pool, string) {
	url := os.Getenv(benchDatabase)
	if url == "" {
		server, err := postgres.Start(b.Context(), postgres.Options{Durable: true})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { server.Stop() })
		url = server.URL("postgres")
	}
	config := testConfig(url)
	pool, err := openPool(b.Context(), config.Database)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	if err := migrations.Up(b.Context(), pool.Config().ConnConfig, config.schemas()); err != nil {
		b.Fatal(err)
	}
	return pool, url
}

// load is what one round did.
type load struct {
	took               time.Duration
	acks               []time.Duration // sorted
	receiver, postgres time.Duration   // of processor time
	generator          time.Duration   // the same, of who sent it
	perFlush           float64         // events
}

func logLoads(b *testing.B, name string, rounds []load) {
	b.Logf("%-6s %8.0f acked/s  p50 %6.2f ms  p99 %6.2f ms  %4.0f µs receiver + %4.0f µs Postgres + %3.0f µs load an event, %3.0f a flush", name,
		median(rounds, load.rate), median(rounds, quantile(.50)), median(rounds, quantile(.99)), median(rounds, load.receiverTime),
		median(rounds, load.postgresTime), median(rounds, load.generatorTime), median(rounds, func(l load) float64 { return l.perFlush }))
}

func (l load) rate() float64 { return float64(len(l.acks)) / l.took.Seconds() }
func (l load) receiverTime() float64 {
	return float64(l.receiver.Microseconds()) / float64(len(l.acks))
}
func (l load) postgresTime() float64 {
	return float64(l.postgres.Microseconds()) / float64(len(l.acks))
}
func (l load) generatorTime() float64 {
	return float64(l.generator.Microseconds()) / float64(len(l.acks))
}
func (l load) time() float64 { return l.receiverTime() + l.postgresTime() }

func quantile(q float64) func(load) float64 {
	return func(l load) float64 { return float64(l.acks[int(q*float64(len(l.acks)-1))].Microseconds()) / 1000 }
}

// measure runs one round on empty tables: with events nobody has seen, or with a thousand that are all stored.
func (r *benchReceiver) measure(b *testing.B, pool *pgxpool.Pool, connections int, length time.Duration, fresh bool) load {
	empty(b, pool)
	next := func() int64 { return benchEvents.Add(1) }
	if !fresh {
		next = func() int64 { return benchEvents.Add(1) % 1000 }
		r.load(b, connections, length/4, 0, next)
	}
	l := r.watch(b, pool, func() load { return r.load(b, connections, length, 0, next) })
	if err := pool.QueryRow(b.Context(), `SELECT coalesce(avg(events), 0)::float FROM sync_flushes`).Scan(&l.perFlush); err != nil {
		b.Fatal(err)
	}
	return l
}

// watch adds to what a load says the processor time that it took.
func (r *benchReceiver) watch(b *testing.B, pool *pgxpool.Pool, load func() load) load {
	backends := postmaster(b, pool)
	receiver, server, own := processorTime(r.pid), backends(), processorTime(os.Getpid())
	l := load()
	l.receiver, l.postgres, l.generator = processorTime(r.pid)-receiver, backends()-server, processorTime(os.Getpid())-own
	return l
}

func empty(b *testing.B, pool *pgxpool.Pool) {
	if _, err := pool.Exec(b.Context(), `TRUNCATE webhook_events, sync_flushes, leadgrid_queue.river_job`); err != nil {
		b.Fatal(err)
	}
}

var benchEvents atomic.Int64

func median(rounds []load, of func(load) float64) float64 {
	var values []float64
	for _, r := range rounds {
		values = append(values, of(r))
	}
	return ratio.Median(values)
}

// postmaster returns a clock of the processor time of a whole server: its processes, and those that have ended.
func postmaster(b *testing.B, pool *pgxpool.Pool) func() time.Duration {
	var backend int
	if err := pool.QueryRow(b.Context(), `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		b.Fatal(err)
	}
	parent := stat(backend).parent
	return func() time.Duration {
		total := stat(parent).withChildren
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range all {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			if s := stat(pid); s.parent == parent {
				total += s.own
			}
		}
		return total
	}
}

func processorTime(pid int) time.Duration { return stat(pid).own }

type procStat struct {
	parent            int
	own, withChildren time.Duration
}

// stat reads /proc/PID/stat, all zero where there is none.
func stat(pid int) (s procStat) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:])) // from the third, the state
	ticks := func(field int) time.Duration {
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100
	}
	s.parent, _ = strconv.Atoi(fields[4-3])
	s.own = ticks(14) + ticks(15)
	s.withChildren = s.own + ticks(16) + ticks(17)
	return s
}
