package events

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// Replayed counts what a replay asked for.
type Replayed struct {
	Flushes int   `json:"flushes"`
	Events  int64 `json:"events"` // in those flushes
}

// Replay asks, in the caller's transaction, for all flushes to be processed again that hold an event received since a time, and
// of eventType if that is not empty. What their events name is read from LeadGrid again. The events themselves are used for
// the stage history only, where each counts once.
func Replay(ctx context.Context, tx pgx.Tx, jobs *river.Client[pgx.Tx], since time.Time, eventType string) (replayed Replayed, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("replay events: %w", err)
		}
	}()
	var after int64
	if err := tx.QueryRow(ctx, `SELECT nextval('observations')`).Scan(&after); err != nil {
		return replayed, err
	}
	// This also restores flushes that retention has forgotten.
	rows, err := tx.Query(ctx, `
		INSERT INTO sync_flushes (flush, events, received_at)
		SELECT flush, count(*), min(received_at) FROM webhook_events
		WHERE flush IN (SELECT flush FROM webhook_events WHERE received_at >= $1 AND ($2 = '' OR type = $2))
		GROUP BY flush
		ON CONFLICT (flush) DO UPDATE SET done_at = NULL
		RETURNING flush, events`, since, eventType)
	if err != nil {
		return replayed, err
	}
	var params []river.InsertManyParams
	var flush, events int64
	_, err = pgx.ForEachRow(rows, []any{&flush, &events}, func() error {
		params = append(params, river.InsertManyParams{Args: FlushArgs{Flush: flush, After: after}})
		replayed.Events += events
		return nil
	})
	replayed.Flushes = len(params)
	for len(params) > 0 && err == nil {
		n := min(len(params), 1000)
		_, err = jobs.InsertManyTx(ctx, tx, params[:n])
		params = params[n:]
	}
	return replayed, err
}
