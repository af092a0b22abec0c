package simulate_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

var costOf = flag.Int("dossiers", 200, "how many dossiers TestPromise9_WhatASyncCosts mirrors")

// mostWAL keeps what a sync writes from growing. The aim is 30 bytes: docs/proof.md says what the rest is.
const mostWAL = 100

// TestPromise9_WhatASyncCosts measures a full sync, with the whole engine at work: its requests beside the fewest that could
// show everything, the row versions it makes where nothing has changed, and the WAL it then writes, bookkeeping and pages
// written whole after a checkpoint included.
func TestPromise9_WhatASyncCosts(t *testing.T) {
	server := leadgridtest.New(leadgridtest.Options{LedgerSize: 10})
	t.Cleanup(server.Close)
	n := *costOf
	server.Seed(leadgridtest.Size{Dossiers: n, Contacts: 2 * n, Links: 3 * n / 2, Notes: 5 * n})
	pool := pgtest.Own(t, postgres.Options{Durable: true})
	engine := work(t, pool, server)
	backfill := fullSync(t, pool, engine)
	before, rows := versions(t, pool)
	if _, err := pool.Exec(t.Context(), `CHECKPOINT`); err != nil {
		t.Fatal(err)
	}
	from := position(t, pool)
	again := fullSync(t, pool, engine)
	wal := float64(position(t, pool)-from) / float64(rows)
	if after, _ := versions(t, pool); after != before {
		t.Error("a sync over unchanged data made row versions in the mirrored tables")
	}
	least := leastRequests(server.Snapshot())
	t.Logf("%d dossiers, %d rows: backfill %d requests (%.3f of the least possible), sync over unchanged data %d (%.3f), 0 row versions, %.1f bytes of WAL a row",
		n, rows, backfill.Requests, float64(backfill.Requests)/float64(least), again.Requests, float64(again.Requests)/float64(least), wal)
	if ratio := float64(again.Requests) / float64(least); ratio > 1.1 {
		t.Errorf("a sync takes %.3f of the least possible requests", ratio)
	}
	if wal > mostWAL {
		t.Errorf("a sync over unchanged data writes %.1f bytes of WAL a row, want at most %d", wal, mostWAL)
	}
}

// leastRequests counts the pages of 100 that show everything once: each list, each pool, each flow's stages, and the links
// and notes of each dossier.
func leastRequests(truth leadgridtest.Snapshot) (requests int) {
	pages := func(rows int) int { return max(1, (rows+99)/100) }
	pool := map[any]int{}
	for _, contact := range truth["contacts"] {
		pool[contact["pool"]]++
	}
	requests = pages(len(truth["flows"])) + len(truth["flows"]) + pages(len(truth["dossiers"])) + pages(len(truth["contacts"])) +
		pages(pool["in_pool"]) + pages(pool["expired"])
	for _, table := range []string{"dossier_contacts", "notes"} {
		of := make(map[any]int)
		for _, row := range truth[table] {
			of[row["dossier_id"]]++
		}
		for id := range truth["dossiers"] {
			requests += pages(of[id])
		}
	}
	return requests
}

// work starts an engine between a LeadGrid and a database.
func work(t testing.TB, pool *pgxpool.Pool, server *leadgridtest.Server) *jobs.Engine {
	t.Helper()
	return workWith(t, pool, server, sweep.Options{})
}

func workWith(t testing.TB, pool *pgxpool.Pool, server *leadgridtest.Server, options sweep.Options) *jobs.Engine {
	t.Helper()
	api, err := leadgridapi.New(server.URL(), server.Key())
	if err != nil {
		t.Fatal(err)
	}
	engine, err := jobs.New(jobs.Config{
		Pool: pool, QueueSchema: pgtest.Schemas.Queue, API: api, Lag: 100 * time.Millisecond, NoSchedule: true, Sweep: options,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := engine.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return engine
}

func fullSync(t testing.TB, pool *pgxpool.Pool, engine *jobs.Engine) *sweep.Sweep {
	t.Helper()
	return sweepThrough(t, pool, engine, sweep.Full, func() {})
}

// sweepThrough runs a sweep to its end, and looks at things meanwhile.
func sweepThrough(t testing.TB, pool *pgxpool.Pool, engine *jobs.Engine, kind sweep.Kind, look func()) *sweep.Sweep {
	t.Helper()
	var id int64
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		id, err = jobs.RequestSweep(t.Context(), tx, engine.River, kind, nil, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := sweep.Load(t.Context(), pool, id)
		look()
		switch {
		case err != nil:
			t.Fatal(err)
		case s.State == sweep.Done:
			return s
		case s.Ended():
			t.Fatalf("the sweep ended as %s", s.State)
		}
		<-tick.C
	}
}

func position(t *testing.T, pool *pgxpool.Pool) (bytes int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// versions tells the mirrored tables' row versions apart from any others, and counts them.
func versions(t *testing.T, pool *pgxpool.Pool) (all string, rows int) {
	t.Helper()
	var b strings.Builder
	for _, table := range []string{"flows", "stages", "dossiers", "contacts", "dossier_contacts", "notes"} {
		var version string
		var n int
		err := pool.QueryRow(t.Context(), `SELECT count(*), coalesce(md5(string_agg(ctid::text || xmin::text, ' ' ORDER BY ctid)), '') FROM `+table).
			Scan(&n, &version)
		if err != nil {
			t.Fatal(err)
		}
		rows += n
		fmt.Fprintln(&b, table, version)
	}
	return b.String(), rows
}
