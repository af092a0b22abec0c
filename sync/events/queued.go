package events

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// queuedTx is a pgx.Tx that sends nothing: it puts what River writes into a batch, to be sent together with the events. That
// saves a flush one round trip for the job, one for its notification and one for COMMIT, and every sender waits for each.
type queuedTx struct {
	*connection
	batch *pgx.Batch
}

// connection is another name for the embedded field: Conn is a method of pgx.Tx.
type connection = pgx.Conn

var _ pgx.Tx = (*queuedTx)(nil)

// Exec puts a statement into the batch. Its error, if any, shows in the batch's result.
func (tx *queuedTx) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tx.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

// CopyFrom puts an INSERT of the same rows into the batch, which cannot hold a COPY.
func (tx *queuedTx) CopyFrom(_ context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (n int64, err error) {
	names, places := make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		names[i], places[i] = pgx.Identifier{column}.Sanitize(), fmt.Sprintf("$%d", i+1)
	}
	insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table.Sanitize(), strings.Join(names, ", "), strings.Join(places, ", "))
	for ; rows.Next(); n++ {
		values, err := rows.Values()
		if err != nil {
			return n, err
		}
		tx.batch.Queue(insert, values...)
	}
	return n, rows.Err()
}

// Commit does nothing: whoever sends the batch commits it, since without a BEGIN it is one transaction.
func (tx *queuedTx) Commit(context.Context) error { return nil }

// Rollback does nothing: not to send the batch is enough.
func (tx *queuedTx) Rollback(context.Context) error { return nil }

// Conn returns the connection below.
func (tx *queuedTx) Conn() *pgx.Conn { return tx.connection }

// LargeObjects are of no use here.
func (tx *queuedTx) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }
