package events

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pipelinedTx is a transaction that was begun together with its first statement, and is committed together with the last
// ones: what asks for no rows (River's NOTIFY) waits for COMMIT to be sent along. A flush so takes three round trips
// instead of five, and everybody in it waits for each.
type pipelinedTx struct {
	*connection
	last pgx.Batch
}

// connection is another name for the embedded field: Conn is a method of pgx.Tx.
type connection = pgx.Conn

var _ pgx.Tx = (*pipelinedTx)(nil)

// Exec sends nothing yet: the error comes from Commit.
func (tx *pipelinedTx) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tx.last.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

// Commit sends what was left for it, and COMMIT.
func (tx *pipelinedTx) Commit(ctx context.Context) error {
	tx.last.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" { // of a transaction that had failed it makes a ROLLBACK, without an error
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
	return tx.SendBatch(ctx, &tx.last).Close()
}

// Rollback forgets the transaction.
func (tx *pipelinedTx) Rollback(ctx context.Context) error {
	_, err := tx.connection.Exec(ctx, "ROLLBACK")
	return err
}

// Conn returns the connection below.
func (tx *pipelinedTx) Conn() *pgx.Conn { return tx.connection }

// LargeObjects are of no use here.
func (tx *pipelinedTx) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }
