package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
)

type digest = [sha256.Size]byte

// row is one row of webhook_events on its way there. Empty texts and zero times are stored as null.
type row struct {
	digest     digest
	raw        []byte
	id         string
	eventType  string
	createdAt  time.Time
	receivedAt time.Time
	dossierID  string
	stageID    string
	odd        string
}

// fate is what became of a row whose transaction was committed.
type fate struct {
	stored bool   // false: it was there already
	odd    string // why the database refused the payload, when it did
}

// storeEvents takes the flush's number only now that all its events have been received: whatever read of LeadGrid takes a
// higher number began after them, and so has seen what they tell of. Rows go in by digest, so that two transactions with
// the same events wait for each other instead of deadlocking. What is about somebody who was erased, and what was mapped by
// another mapping than the one applied last, is kept without its payload.
const storeEvents = `
WITH numbered AS MATERIALIZED (
    SELECT nextval('observations') AS flush
), stored AS (
    INSERT INTO webhook_events (digest, id, type, created_at, received_at, dossier_id, stage_id, payload, body, odd, flush)
    SELECT e.digest, e.id, nullif(e.type, ''), e.created_at, e.received_at, nullif(e.dossier_id, ''), nullif(e.stage_id, ''),
           CASE WHEN keep THEN e.payload END, CASE WHEN keep THEN e.body END, nullif(e.odd, ''), numbered.flush
    FROM numbered, unnest($1::bytea[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
                          $8::jsonb[], $9::bytea[], $10::text[])
                   AS e (digest, id, type, created_at, received_at, dossier_id, stage_id, payload, body, odd),
         LATERAL (SELECT $11 = (SELECT digest FROM sync_mapping) AND NOT (EXISTS (SELECT FROM erasures) AND EXISTS (
             SELECT FROM erasures s WHERE s.token = erasure_token('dossiers', e.dossier_id))) AS keep) AS kept
    ON CONFLICT (digest) DO NOTHING
    RETURNING digest, flush
), counted AS (
    INSERT INTO sync_flushes (flush, events) SELECT flush, count(*) FROM stored GROUP BY flush
)
SELECT digest, flush FROM stored`

// attemptTimeout bounds one transaction, the wait for a connection included.
const attemptTimeout = 5 * time.Second

// storePatiently stores rows, trying again while the database is in trouble and the deadline has not passed: senders may
// never repeat an event, so a short failover should not cost any. Rows missing from the result were not stored, or not
// surely, because of the error.
func (in *Intake) storePatiently(ctx context.Context, rows []row, deadline time.Time) (map[digest]fate, error) {
	slices.SortFunc(rows, func(a, b row) int { return slices.Compare(a.digest[:], b.digest[:]) })
	fates := make(map[digest]fate, len(rows))
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := in.store(ctx, rows, fates)
		if err == nil || !isTransient(err) || time.Now().Add(wait).After(deadline) {
			return fates, err
		}
		time.Sleep(wait)
	}
}

// store commits rows, in one transaction unless the database refuses the data of one of them: halves are then tried, down
// to the row that is refused, so that it harms no other.
func (in *Intake) store(ctx context.Context, rows []row, fates map[digest]fate) error {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	fresh, err := in.storeAtOnce(attempt, rows)
	switch {
	case err == nil:
		for _, r := range rows {
			if _, settled := fates[r.digest]; !settled { // by an attempt that failed later for others
				_, stored := fresh[r.digest]
				fates[r.digest] = fate{stored: stored, odd: r.odd}
			}
		}
		return nil
	case !isData(err):
		return fmt.Errorf("store %d events: %w", len(rows), err)
	case len(rows) > 1:
		half := len(rows) / 2
		return errors.Join(in.store(ctx, rows[:half], fates), in.store(ctx, rows[half:], fates))
	case rows[0].odd != "":
		return fmt.Errorf("store an odd event: %w", err)
	default:
		rows[0].strip(err)
		return in.store(ctx, rows, fates)
	}
}

// storeAtOnce is the transaction: the events, their flush and the job that will process it, or none of them.
func (in *Intake) storeAtOnce(ctx context.Context, rows []row) (map[digest]struct{}, error) {
	conn, err := in.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // which closes it if a transaction is still open

	var (
		fresh = make(map[digest]struct{}, len(rows))
		key   []byte
		flush int64
		begin pgx.Batch
	)
	begin.Queue("BEGIN")
	begin.Queue(storeEvents, append(columns(rows), in.mapping)...).Query(func(result pgx.Rows) error {
		_, err := pgx.ForEachRow(result, []any{(*pgtype.DriverBytes)(&key), &flush}, func() error {
			fresh[digest(key)] = struct{}{}
			return nil
		})
		return err
	})
	tx := &pipelinedTx{connection: conn.Conn()}
	if err := tx.SendBatch(ctx, &begin).Close(); err != nil {
		return nil, err
	}
	if len(fresh) == 0 { // all were there already, committed, or the statement would have waited for them
		return fresh, tx.Rollback(ctx)
	}
	if _, err := in.jobs.InsertTx(ctx, tx, FlushArgs{Flush: flush}, &river.InsertOpts{Metadata: tracing.Metadata(ctx)}); err != nil {
		return nil, err
	}
	return fresh, tx.Commit(ctx)
}

// columns turns rows into the arrays of storeEvents.
func columns(rows []row) []any {
	return []any{
		column(rows, func(r *row) []byte { return r.digest[:] }),
		column(rows, func(r *row) string { return r.id }),
		column(rows, func(r *row) string { return r.eventType }),
		column(rows, func(r *row) pgtype.Timestamptz {
			return pgtype.Timestamptz{Time: r.createdAt, Valid: !r.createdAt.IsZero()}
		}),
		column(rows, func(r *row) time.Time { return r.receivedAt }),
		column(rows, func(r *row) string { return r.dossierID }),
		column(rows, func(r *row) string { return r.stageID }),
		column(rows, (*row).payload),
		column(rows, (*row).body),
		column(rows, func(r *row) string { return r.odd }),
	}
}

func column[T any](rows []row, of func(*row) T) pgtype.FlatArray[T] { // which pgx encodes without reflection
	values := make(pgtype.FlatArray[T], len(rows))
	for i := range rows {
		values[i] = of(&rows[i])
	}
	return values
}

// payload is the bytes of an event that is understood.
func (r *row) payload() []byte {
	if r.odd != "" {
		return nil
	}
	return r.raw
}

// body is the bytes of one that is not.
func (r *row) body() []byte {
	if r.odd == "" {
		return nil
	}
	return append([]byte{}, r.raw...) // null is not an empty body
}

// strip leaves of a row what no database can refuse: its bytes.
func (r *row) strip(err error) {
	r.id, r.eventType, r.dossierID, r.stageID, r.createdAt = bodyID(r.digest), "", "", "", time.Time{}
	r.odd = "the database refuses it"
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		r.odd += ": SQLSTATE " + pgErr.Code // the message would quote the data
	}
}

// bodyID stands for the id of an event that has none.
func bodyID(d digest) string { return "sha256:" + hex.EncodeToString(d[:]) }

// isData tells an error in a value (class 22), or in its size (54), from all others.
func isData(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code[:2] == "22" || pgErr.Code[:2] == "54")
}

// isTransient tells a database in trouble, which the next attempt may find well again, from one that says no. What is not
// the server's answer is the connection's failure.
func isTransient(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	switch pgErr.Code[:2] {
	case "08", "40", "53", "57": // connection, rollback, resources, operator
		return true
	}
	return false
}
