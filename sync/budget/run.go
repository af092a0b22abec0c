package budget

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/dedicated"
)

const (
	// flushEvery is how soon answers are told to the others when no tokens are asked for.
	flushEvery = time.Second
	// reconnect is how long to wait before connecting again.
	reconnect = 500 * time.Millisecond
)

// Run publishes refusals, listens for those of others and passes on what was learned while nothing is asked for. It ends
// with the context, after giving back what this replica still holds. It needs one connection beside the pool; while that
// is down, knowledge is read again before requests are sent.
func (b *Budget) Run(ctx context.Context) error {
	for listening := true; ctx.Err() == nil; {
		err := b.serve(ctx, func() { listening = true })
		if ctx.Err() != nil {
			break
		}
		if listening { // said once, however long it lasts
			b.options.Logger.WarnContext(ctx, "no news of the API budget for now; it is read before requests instead", "error", err)
			listening = false
		}
		// The connection is gone, perhaps while a refusal was being published: use the pool until there is a new one.
		b.publish()
		pause, cancel := context.WithTimeout(ctx, reconnect)
		b.idle(pause)
		cancel()
	}
	if err := b.leave(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("give back what is left of the API budget: %w", err)
	}
	return nil
}

// serve does its work over a connection of its own until that fails. It says when it has begun to listen.
func (b *Budget) serve(ctx context.Context, listening func()) error {
	conn, err := dedicated.Connect(ctx, b.pool)
	if err != nil {
		return fmt.Errorf("connect for budget news: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var schema string
	if err := conn.QueryRow(ctx, `SELECT current_schema()`).Scan(&schema); err != nil {
		return fmt.Errorf("listen for budget news: %w", err)
	}
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return fmt.Errorf("listen for budget news: %w", err)
	}
	if err := b.look(ctx, conn); err != nil {
		return err
	}
	listening()
	for {
		news, err := b.listen(ctx, conn)
		if err != nil {
			return err
		}
		told, err := b.tellSoon(ctx, conn)
		if err == nil && !told && news == schema {
			err = b.look(ctx, conn)
		}
		if err != nil {
			return err
		}
	}
}

// listen waits for news of another replica, for a refusal to publish, or until answers should be told.
func (b *Budget) listen(ctx context.Context, conn *pgx.Conn) (news string, err error) {
	wait, cancel := context.WithTimeout(ctx, flushEvery)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-b.urgent:
			cancel()
		case <-wait.Done():
		}
	}()
	n, err := conn.WaitForNotification(wait)
	interrupted := wait.Err() != nil
	cancel()
	<-stopped
	switch {
	case err == nil:
		return n.Payload, nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case interrupted && !conn.IsClosed():
		return "", nil
	}
	return "", fmt.Errorf("listen for budget news: %w", err)
}

// idle publishes refusals through the pool until the context ends.
func (b *Budget) idle(ctx context.Context) {
	for {
		select {
		case <-b.urgent:
			if _, err := b.tell(ctx, b.pool); err != nil {
				b.publish()
				<-ctx.Done()
			}
		case <-ctx.Done():
			return
		}
	}
}

// publish asks Run to tell what was seen, soon.
func (b *Budget) publish() {
	select {
	case b.urgent <- struct{}{}:
	default:
	}
}
