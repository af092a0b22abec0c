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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
)

type digest = [sha256.Size]byte

// row is a row of webhook_events to be stored. Empty strings and zero times are stored as null.
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

// fate is what became of a row once its transaction was committed.
type fate struct {
	stored bool   // false if it was there already
	odd    string // why the payload was refused, empty if it was not
}

// findKnown returns which events are already committed, so that duplicates cost neither a write nor a transaction.
const findKnown = `SELECT digest FROM webhook_events WHERE digest = ANY ($1::bytea[])`

// storeEvents stores a flush. It takes the flush's number when all its events have been received, so any read of LeadGrid with a
// higher number began later, and has seen what they announce. Rows are inserted in the order of their digests, so that two
// transactions with the same events wait for each other instead of deadlocking. The one that waited then fails, as does one that
// did not look for known events and holds one; ON CONFLICT would always cost a fifth more. Events about an erased person, and
// those reduced by another mapping than the one applied last, are kept without their payload.
const storeEvents = `
WITH flush AS (
    INSERT INTO sync_flushes (flush, events) VALUES (nextval('observations'), cardinality($1::bytea[])) RETURNING flush
)
INSERT INTO webhook_events (digest, id, type, created_at, received_at, dossier_id, stage_id, payload, body, odd, flush)
SELECT e.digest, e.id, nullif(e.type, ''), e.created_at, e.received_at, nullif(e.dossier_id, ''), nullif(e.stage_id, ''),
       CASE WHEN keep THEN e.payload END, CASE WHEN keep THEN e.body END, nullif(e.odd, ''), (SELECT flush FROM flush)
FROM unnest($1::bytea[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
            $8::jsonb[], $9::bytea[], $10::text[])
         AS e (digest, id, type, created_at, received_at, dossier_id, stage_id, payload, body, odd),
     LATERAL (SELECT $11 = (SELECT digest FROM sync_mapping) AND NOT (EXISTS (SELECT FROM erasures) AND EXISTS (
         SELECT FROM erasures s WHERE s.token = erasure_token('dossiers', e.dossier_id))) AS keep
         OFFSET 0) AS kept` // OFFSET 0: evaluate once per row, not once per use

// attemptTimeout bounds one transaction, the wait for a connection included.
const attemptTimeout = 5 * time.Second

// many is how many events are stored without a look for known ones first, unless there were some the last time. Of fewer, a
// failed transaction costs more, in Postgres's log as well, than all of them save.
const many = 8

// conflicts bounds how often an attempt may find that somebody else has just stored one of its events.
const conflicts = 10

// storePatiently stores rows, and retries while the database is in trouble and the deadline has not passed: senders may
// never repeat an event, so a short failover must not lose any. Rows missing from the result may not have been stored; the
// error says why.
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

// store commits rows in one transaction. If the database refuses one row's data, store tries each half by itself, down to that
// row, so that it harms no other.
func (in *Intake) store(ctx context.Context, rows []row, fates map[digest]fate) error {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	known, err := in.storeAtOnce(attempt, rows, len(rows) < many || in.repeating.Load())
	for i := 0; i < conflicts && isConflict(err); i++ {
		known, err = in.storeAtOnce(attempt, rows, true)
	}
	switch {
	case err == nil:
		in.repeating.Store(len(known) > 0)
		for _, r := range rows {
			if _, settled := fates[r.digest]; !settled { // by an earlier attempt that failed for other rows
				_, repeated := known[r.digest]
				fates[r.digest] = fate{stored: !repeated, odd: r.odd}
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

// storeAtOnce runs the transaction: it stores the events, their flush and the job that will process it, or nothing. It returns
// which events were there before, for which it must look first: otherwise there is a conflict if any was. It takes one round
// trip, and one more to look.
func (in *Intake) storeAtOnce(ctx context.Context, rows []row, look bool) (known map[digest]struct{}, err error) {
	conn, err := in.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if look {
		if known, err = lookFor(ctx, conn, rows); err != nil || len(known) == len(rows) {
			return known, err
		}
	}
	if len(known) > 0 {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
			_, is := known[r.digest]
			return is
		})
	}
	var batch pgx.Batch
	batch.Queue(storeEvents, append(columns(rows), in.mapping)...)
	job := river.InsertManyParams{Args: flushOf(rows[0].digest), InsertOpts: &river.InsertOpts{Metadata: tracing.Metadata(ctx)}}
	if _, err := in.jobs.InsertManyFastTx(ctx, &queuedTx{conn.Conn(), &batch}, []river.InsertManyParams{job}); err != nil {
		return nil, err
	}
	return known, conn.SendBatch(ctx, &batch).Close() // a failed commit shows here
}

func lookFor(ctx context.Context, conn *pgxpool.Conn, rows []row) (map[digest]struct{}, error) {
	found, err := conn.Query(ctx, findKnown, digests(rows))
	if err != nil {
		return nil, err
	}
	known := map[digest]struct{}{}
	var d []byte
	_, err = pgx.ForEachRow(found, []any{&d}, func() error {
		known[digest(d)] = struct{}{}
		return nil
	})
	return known, err
}

func digests(rows []row) any {
	return column(rows, func(r *row) []byte { return r.digest[:] })
}

// columns turns rows into the arrays of storeEvents.
func columns(rows []row) []any {
	return []any{
		digests(rows),
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

func column[T any](rows []row, of func(*row) T) pgtype.FlatArray[T] { // pgx encodes it without reflection
	values := make(pgtype.FlatArray[T], len(rows))
	for i := range rows {
		values[i] = of(&rows[i])
	}
	return values
}

// payload returns the body if it was understood, otherwise nil.
func (r *row) payload() []byte {
	if r.odd != "" {
		return nil
	}
	return r.raw
}

// body returns the body if it was not understood, otherwise nil.
func (r *row) body() []byte {
	if r.odd == "" {
		return nil
	}
	return append([]byte{}, r.raw...) // null is not an empty body
}

// strip reduces a row to its bytes, which no database can refuse.
func (r *row) strip(err error) {
	r.id, r.eventType, r.dossierID, r.stageID, r.createdAt = bodyID(r.digest), "", "", "", time.Time{}
	r.odd = "the database refuses it"
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		r.odd += ": SQLSTATE " + pgErr.Code // the message would quote the data
	}
}

// bodyID is the id of an event that has none of its own.
func bodyID(d digest) string { return "sha256:" + hex.EncodeToString(d[:]) }

// isData reports whether a value is invalid (class 22) or too large (54).
func isData(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code[:2] == "22" || pgErr.Code[:2] == "54")
}

// isConflict reports whether somebody else has just stored one of the events.
func isConflict(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "23505" && pgErr.TableName == "webhook_events"
}

// isTransient reports whether the next attempt may succeed, because the database is in trouble. An error that did not come from
// the server is a failed connection.
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
