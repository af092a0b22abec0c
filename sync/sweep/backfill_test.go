package sweep_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// BenchmarkSweep measures full sweeps without latency or a rate limit, through client, parsing, mapping and SQL, on a Postgres
// with fsync on: the backfill, beside one COPY of the same rows into tables like theirs; and a sweep that finds nothing
// changed, beside one statement a row, with the WAL it writes after a checkpoint, table by table. Rounds are interleaved:
// only ratios within a round mean anything.
//
// LeadGrid is played back from a recording over real HTTP, in this process: what that and plain HTTP alone cost is logged as
// read/copy, the ceiling of any sweep here.
func BenchmarkSweep(b *testing.B) {
	for _, size := range []struct {
		name      string
		resources []string
		seed      leadgridtest.Size
	}{
		{"lists", []string{"contacts"}, leadgridtest.Size{Contacts: 20_000}},
		{"everything", nil, leadgridtest.Size{Dossiers: 2000, Contacts: 4000, Links: 3000, Notes: 10_000}},
	} {
		b.Run(size.name, func(b *testing.B) {
			leadgrid := record(b, size.seed)
			server := durable(b)
			measure(b, leadgrid, migrated(b, server, "recording"), size.resources) // fills the recording
			var rounds []round
			for b.Loop() {
				leadgrid.misses = 0
				pool := migrated(b, server, fmt.Sprintf("round%d", len(rounds)+1))
				rounds = append(rounds, measure(b, leadgrid, pool, size.resources))
				if leadgrid.misses > 0 {
					b.Logf("%d requests were not in the recording", leadgrid.misses)
				}
			}
			report := func(unit string, of func(round) float64) {
				var values []float64
				for _, r := range rounds {
					values = append(values, of(r))
				}
				ratio.Report(b, unit, values)
			}
			report("×copy", func(r round) float64 { return r.new / r.copy })
			report("×single", func(r round) float64 { return r.unchanged / r.single })
			report("WAL-B/row", func(r round) float64 { return r.wal })
			b.ReportMetric(0, "ns/op")
		})
	}
}

// round is what one round measured: rows a second, and bytes of WAL a row.
type round struct{ read, new, copy, unchanged, single, wal float64 }

func measure(b *testing.B, leadgrid *recording, pool *pgxpool.Pool, resources []string) round {
	began := b.Elapsed()
	replay(b, leadgrid)
	reading := b.Elapsed() - began
	idle := spent(b)
	took := run(b, leadgrid, pool, resources)
	newCPU := spent(b).minus(idle)
	idle = spent(b)
	copied, rows := copied(b, pool)
	copyCPU := spent(b).minus(idle)
	for _, statement := range []string{`CREATE EXTENSION IF NOT EXISTS pg_walinspect`, `VACUUM ANALYZE`, `VACUUM`, `CHECKPOINT`} {
		if _, err := pool.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	from := position(b, pool)
	idle = spent(b)
	again := run(b, leadgrid, pool, resources)
	againCPU := spent(b).minus(idle)
	wal := walByTable(b, pool, from)
	single := rowAtATime(b, pool)
	rate := func(d time.Duration) float64 { return float64(rows) / d.Seconds() }
	b.Logf("%d rows: new/copy %.3f, read/copy %.2f, unchanged/single %.1f, WAL a row unchanged %.1f: %s",
		rows, copied.Seconds()/took.Seconds(), copied.Seconds()/reading.Seconds(), rate(again)/single,
		float64(wal.total)/float64(rows), wal.perRow(rows))
	b.Logf("rows/s: new %.0f, copy %.0f, unchanged %.0f, single %.0f", rate(took), rate(copied), rate(again), single)
	b.Logf("CPU a row: new %s, copy %s, unchanged %s", newCPU.perRow(rows), copyCPU.perRow(rows), againCPU.perRow(rows))
	return round{
		read: rate(reading), new: rate(took), copy: rate(copied), unchanged: rate(again), single: single,
		wal: float64(wal.total) / float64(rows),
	}
}

// cpu is the processor time of this process, LeadGrid's recording included, and of its Postgres. Unlike the time that passes,
// it says something on a machine that has other things to do.
type cpu struct{ ours, postgres time.Duration }

func (c cpu) minus(d cpu) cpu { return cpu{c.ours - d.ours, c.postgres - d.postgres} }

func (c cpu) perRow(rows int64) string {
	return fmt.Sprintf("%.1f µs here and %.1f in Postgres", float64(c.ours.Microseconds())/float64(rows), float64(c.postgres.Microseconds())/float64(rows))
}

func spent(b *testing.B) (c cpu) {
	type process struct {
		parent string
		ticks  int64
	}
	processes := make(map[string]process)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		id, rest, _ := strings.Cut(string(stat), " ")
		fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
		p := process{parent: fields[1]}
		for _, field := range fields[11:15] { // its own and its ended children's, in user and system mode
			ticks, _ := strconv.ParseInt(field, 10, 64)
			p.ticks += ticks
		}
		processes[id] = p
	}
	us := strconv.Itoa(os.Getpid())
	const tick = 10 * time.Millisecond
	for id, p := range processes {
		for parent := p.parent; parent != "" && id != us; parent = processes[parent].parent {
			if parent == us {
				c.postgres += time.Duration(p.ticks) * tick
			}
		}
	}
	c.ours = time.Duration(processes[us].ticks) * tick
	return c
}

// run times a full sweep.
func run(b *testing.B, leadgrid *recording, pool *pgxpool.Pool, resources []string) time.Duration {
	api, err := leadgridapi.New(leadgrid.server.URL, leadgrid.key)
	if err != nil {
		b.Fatal(err)
	}
	sweeper := sweep.New(observe.New(api, mirror.New(pool, mirror.Options{}), access.New(pool, 0)), sweep.Options{})
	began := b.Elapsed()
	var id int64
	err = pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) (err error) {
		id, err = sweep.Request(b.Context(), tx, pgtest.Schemas.Queue, sweep.Full, resources, false)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	s, _, err := sweeper.Run(b.Context(), id, time.Hour)
	if err != nil || s.State != sweep.Done {
		b.Fatalf("the sweep ended as %s: %v", s.State, err)
	}
	return b.Elapsed() - began
}

// copied times one COPY of all mirrored rows, one table after the other, into empty tables like theirs.
func copied(b *testing.B, pool *pgxpool.Pool) (took time.Duration, rows int64) {
	conn, err := pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	for _, kind := range mappings.Kinds {
		var data bytes.Buffer
		if _, err := pg.CopyTo(b.Context(), &data, `COPY `+string(kind)+` TO STDOUT (FORMAT binary)`); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Exec(b.Context(), `CREATE TABLE copied_`+string(kind)+` (LIKE `+string(kind)+` INCLUDING ALL)`); err != nil {
			b.Fatal(err)
		}
		began := b.Elapsed()
		tag, err := pg.CopyFrom(b.Context(), &data, `COPY copied_`+string(kind)+` FROM STDIN (FORMAT binary)`)
		if err != nil {
			b.Fatal(err)
		}
		took += b.Elapsed() - began
		rows += tag.RowsAffected()
	}
	return took, rows
}

// rowAtATime gives the rows a second of the plain way: one upsert a row that does nothing where the hash is the same.
func rowAtATime(b *testing.B, pool *pgxpool.Pool) float64 {
	const most = 1000
	rows, err := pool.Query(b.Context(), `SELECT id, full_name, _raw::text, _hash FROM contacts LIMIT $1`, most)
	if err != nil {
		b.Fatal(err)
	}
	type contact struct {
		ID, Name *string
		Raw      string
		Hash     int64
	}
	contacts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[contact])
	if err != nil {
		b.Fatal(err)
	}
	began := b.Elapsed()
	for _, c := range contacts {
		_, err := pool.Exec(b.Context(), `
			INSERT INTO contacts AS c (id, full_name, _raw, _hash) VALUES ($1, $2, $3::text::jsonb, $4)
			ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name, _raw = excluded._raw, _hash = excluded._hash
			WHERE c._hash IS DISTINCT FROM excluded._hash`, c.ID, c.Name, c.Raw, c.Hash)
		if err != nil {
			b.Fatal(err)
		}
	}
	return float64(len(contacts)) / (b.Elapsed() - began).Seconds()
}

// recording is a LeadGrid that answers from memory what the stand-in has answered once.
type recording struct {
	server *httptest.Server
	key    string

	mu      sync.Mutex
	answers map[string][]byte
	misses  int
}

func record(b *testing.B, size leadgridtest.Size) *recording {
	standIn := leadgridtest.New(leadgridtest.Options{LedgerSize: 100})
	b.Cleanup(standIn.Close)
	standIn.Seed(size)
	r := &recording{key: standIn.Key(), answers: make(map[string][]byte)}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		answer, ok := r.answers[request.URL.RequestURI()]
		r.mu.Unlock()
		if !ok {
			answer = r.ask(b, standIn.URL(), request)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	b.Cleanup(r.server.Close)
	return r
}

func (r *recording) ask(b *testing.B, standIn string, request *http.Request) []byte {
	again, err := http.NewRequestWithContext(context.WithoutCancel(request.Context()), request.Method, standIn+request.URL.RequestURI(), nil)
	if err != nil {
		b.Error(err)
		return nil
	}
	again.Header.Set("Authorization", request.Header.Get("Authorization"))
	response, err := http.DefaultClient.Do(again)
	if err != nil {
		b.Error(err)
		return nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.Errorf("the stand-in answered %s: %v", response.Status, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[request.URL.RequestURI()] = answer
	r.misses++
	return answer
}

// replay reads everything recorded over HTTP, eight requests at once, and drops it.
func replay(b *testing.B, r *recording) {
	uris := make(chan string)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for uri := range uris {
				response, err := client.Get(r.server.URL + uri)
				if err != nil {
					b.Error(err)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
	for uri := range r.answers {
		uris <- uri
	}
	close(uris)
	readers.Wait()
}

// durable starts a server that nothing else writes to, and that does all that a real one does.
func durable(b *testing.B) *postgres.Server {
	server, err := postgres.Start(b.Context(), postgres.Options{Durable: true, Config: map[string]string{"autovacuum": "off"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	return server
}

func migrated(b *testing.B, server *postgres.Server, name string) *pgxpool.Pool {
	conn, err := pgx.Connect(b.Context(), server.URL("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.Context()))
	if _, err := conn.Exec(b.Context(), `CREATE DATABASE `+name); err != nil {
		b.Fatal(err)
	}
	return pgtest.Migrate(b, server.URL(name))
}

func position(b *testing.B, pool *pgxpool.Pool) (lsn string) {
	if err := pool.QueryRow(b.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn); err != nil {
		b.Fatal(err)
	}
	return lsn
}

// wal is how many bytes were logged, and for which tables; a record that is about no table of ours counts as "other".
type wal struct {
	total  int64
	tables map[string]int64
}

func walByTable(b *testing.B, pool *pgxpool.Pool, from string) wal {
	written := wal{tables: make(map[string]int64)}
	rows, err := pool.Query(b.Context(), `
		SELECT coalesce(t.relname, 'other'), sum(r.record_length)::bigint
		FROM pg_get_wal_records_info($1, $2) r
		LEFT JOIN pg_class c ON c.relfilenode = substring(r.block_ref FROM 'rel \d+/\d+/(\d+)')::oid
		LEFT JOIN pg_index i ON i.indexrelid = c.oid
		LEFT JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
		GROUP BY 1`, from, position(b, pool))
	if err != nil {
		b.Fatal(err)
	}
	var table string
	var bytes int64
	_, err = pgx.ForEachRow(rows, []any{&table, &bytes}, func() error {
		written.tables[table] = bytes
		written.total += bytes
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return written
}

func (w wal) perRow(rows int64) string {
	var parts []string
	for _, table := range slices.SortedFunc(maps.Keys(w.tables), func(a, b string) int { return cmp.Compare(w.tables[b], w.tables[a]) }) {
		parts = append(parts, fmt.Sprintf("%s %.1f", table, float64(w.tables[table])/float64(rows)))
	}
	return strings.Join(parts, ", ")
}
