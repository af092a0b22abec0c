package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

func (p *program) migrateCommand() *cobra.Command {
	var to grantees
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or upgrade the schema",
		Long:  "Create or upgrade the schema, River's tables included. Several may run it at once.",
		Args:  cobra.NoArgs,
		RunE:  does(func(ctx context.Context, _ []string) error { return p.migrate(ctx, to) }),
	}
	cmd.Flags().StringSliceVar(&to.readers, "read-role", nil, "let this role read the mirrored tables and views (may be repeated)")
	cmd.Flags().StringSliceVar(&to.writers, "writeback-role", nil, "let this role write commands, all but the deletion of contacts (may be repeated)")
	cmd.Flags().StringSliceVar(&to.deleters, "writeback-delete-role", nil, "let this role write all commands, the deletion of contacts too (may be repeated)")
	return cmd
}

// grantees are the roles to grant rights to.
type grantees struct {
	readers, writers, deleters []string
}

func (p *program) migrate(ctx context.Context, to grantees) error {
	var config databaseConfig
	if err := settings.Load(&config); err != nil {
		return err
	}
	pool, err := config.Open(ctx, "leadgrid-migrate")
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrations.Up(ctx, pool.Config().ConnConfig, schemas(config.Database)); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "schema %s is at version %d\n", config.Schema, migrations.Newest())
	if err := p.remap(ctx, pool, config.Mappings); err != nil {
		return fmt.Errorf("apply the mapping: %w", err)
	}
	for _, role := range to.readers {
		if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return grantReading(ctx, tx, config.Schema, role) }); err != nil {
			return fmt.Errorf("let %s read: %w", role, err)
		}
		fmt.Fprintf(p.out, "%s may read the mirrored tables and views\n", role)
	}
	for i, role := range slices.Concat(to.writers, to.deleters) {
		deletes := i >= len(to.writers)
		if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return grantWriting(ctx, tx, config.Schema, role, deletes) }); err != nil {
			return fmt.Errorf("let %s write back: %w", role, err)
		}
		fmt.Fprintf(p.out, "%s may write commands%s\n", role, map[bool]string{true: ", the deletion of contacts too"}[deletes])
	}
	return nil
}

// grantLock serializes grants: Postgres fails one of two that touch the same table at once. Chosen once, never changed.
const grantLock = 0x6c656164_6772_6e74 // "leadgrnt"

// grantReading lets a role read what analysts work with: the mirrored tables, their histories and all views. Events,
// commands and bookkeeping stay closed.
func grantReading(ctx context.Context, tx pgx.Tx, schema, role string) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(grantLock)); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT relname FROM pg_class
		WHERE relnamespace = quote_ident($1)::regnamespace
		  AND (relkind IN ('v', 'm') AND relname <> 'commands_attention' AND left(relname, 5) <> 'sync_' OR relkind = 'r' AND (relname = 'dossier_stage_history' OR regexp_replace(relname, '_history$', '') = ANY ($2)))
		ORDER BY relname`, schema, mappings.Kinds)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	quoted, reader := pgx.Identifier{schema}.Sanitize(), pgx.Identifier{role}.Sanitize()
	if _, err := tx.Exec(ctx, `GRANT USAGE ON SCHEMA `+quoted+` TO `+reader); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := tx.Exec(ctx, `GRANT SELECT ON `+quoted+`.`+pgx.Identifier{name}.Sanitize()+` TO `+reader); err != nil {
			return err
		}
	}
	return nil
}

func grantWriting(ctx context.Context, tx pgx.Tx, schema, role string, deletes bool) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(grantLock)); err != nil {
		return err
	}
	return writeback.Grant(ctx, tx, schema, role, deletes)
}
