package sweep_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// BenchmarkContacts measures lists alone, without latency or a rate limit: the backfill (new) and a sweep that finds
// nothing changed. The ceiling is one COPY of the same rows into a copy of the table.
func BenchmarkContacts(b *testing.B) {
	const rows = 10_000
	server := leadgridtest.New(leadgridtest.Options{LedgerSize: 100})
	defer server.Close()
	server.Seed(leadgridtest.Size{Contacts: rows})
	for b.Loop() {
		pool := pgtest.New(b)
		api, err := leadgridapi.New(server.URL(), server.Key())
		if err != nil {
			b.Fatal(err)
		}
		observer := observe.New(api, mirror.New(pool, mirror.Options{}), access.New(pool, 0))
		sweeper := sweep.New(observer, sweep.Options{})
		for _, run := range []string{"new", "unchanged"} {
			began := b.Elapsed()
			var id int64
			err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) (err error) {
				id, err = sweep.Request(b.Context(), tx, pgtest.Schemas.Queue, sweep.Full, []string{"contacts"}, false)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			for more := true; more; {
				if _, more, err = sweeper.Run(b.Context(), id, 1<<40); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(rows/(b.Elapsed()-began).Seconds(), "rows/s-"+run)
		}
		b.ReportMetric(rows/copied(b, pool).Seconds(), "rows/s-copy")
	}
}

// copied times one COPY of the mirrored rows into an empty table like theirs.
func copied(b *testing.B, pool *pgxpool.Pool) time.Duration {
	conn, err := pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	var rows bytes.Buffer
	pg := conn.Conn().PgConn()
	if _, err := pg.CopyTo(b.Context(), &rows, `COPY contacts TO STDOUT (FORMAT binary)`); err != nil {
		b.Fatal(err)
	}
	if _, err := pool.Exec(b.Context(), `CREATE TABLE ceiling (LIKE contacts INCLUDING ALL)`); err != nil {
		b.Fatal(err)
	}
	began := b.Elapsed()
	if _, err := pg.CopyFrom(b.Context(), &rows, `COPY ceiling FROM STDIN (FORMAT binary)`); err != nil {
		b.Fatal(err)
	}
	return b.Elapsed() - began
}
