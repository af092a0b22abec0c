package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

// openPool prepares connections to the database, which need not be there yet.
func openPool(ctx context.Context, database settings.Database) (*pgxpool.Pool, error) {
	config, err := database.PoolConfig("leadgrid-receiver")
	if err != nil {
		return nil, err
	}
	config.AfterConnect = prepare
	return pgxpool.NewWithConfig(ctx, config)
}

// prepare undoes a default under which COMMIT returns before the commit is on disk: an event is acked once it is stored, and
// not almost. Stricter settings than "on" stay. Nor may a plan be a scan of all events: one made while they are few is kept
// when they are many, and all that the receiver asks is found by key.
func prepare(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('enable_seqscan', 'off', false), CASE current_setting('synchronous_commit')
		WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END`)
	if err != nil {
		return fmt.Errorf("set up the connection: %w", err)
	}
	return nil
}

// newInserter is a River client that only inserts. Its cooldown is as low as it goes: it is also how long a flush may wait
// for a worker to be woken.
func newInserter(pool *pgxpool.Pool, queueSchema string, log *slog.Logger) (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:        queueSchema,
		FetchCooldown: river.FetchCooldownMin,
		Logger:        log,
	})
}

// readiness is whether an event could be stored: the database answers, and has the tables that this program knows.
func readiness(pool *pgxpool.Pool, schemas migrations.Schemas) []admin.Check {
	return []admin.Check{
		{Name: "database", Probe: pool.Ping},
		{Name: "schema", Probe: func(ctx context.Context) error { return migrations.Check(ctx, pool, schemas) }},
	}
}
