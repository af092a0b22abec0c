// Package migrations creates and upgrades the database schema: our own tables with goose, River's with its migrator.
//
// Every step is additive, so that customers' views keep working, and so do the previous version's programs while a deployment
// rolls out.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed *.sql
var files embed.FS

// Files returns the SQL of every step, named NNNNN_what.sql. There never was a 00002.
func Files() fs.FS { return files }

// versionTable, in the mirror's schema, is where goose records which steps have run.
const versionTable = "sync_migrations"

// lockKey is the advisory lock that lets one migration run at a time. It was chosen once and never changes.
const lockKey = 0x6c656164_67726964 // "leadgrid"

// Schemas names the two schemas.
type Schemas struct {
	Mirror string // the mirrored tables and our own bookkeeping
	Queue  string // River's tables
}

// ErrBehind means that the schema is older than this program needs.
var ErrBehind = errors.New("the database schema is not up to date: run `worker migrate`")

// Up brings the database that config points at to the newest schema. Several may run it at once: one works and the
// others wait for it. The role needs CREATE on the database only while the schemas do not exist yet.
func Up(ctx context.Context, config *pgx.ConnConfig, schemas Schemas) error {
	// The lock needs its own connection: River's migrator and goose open theirs as they like.
	locker, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", err)
	}
	defer locker.Close(context.WithoutCancel(ctx))
	if _, err := locker.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	var encoding string
	if err := locker.QueryRow(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
		return fmt.Errorf("look at the database's encoding: %w", err)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database is encoded in %s, which cannot hold what LeadGrid holds: create one with ENCODING 'UTF8'", encoding)
	}
	if err := createSchema(ctx, locker, schemas.Queue); err != nil {
		return err
	}
	if err := claimQueue(ctx, locker, schemas); err != nil {
		return err
	}
	if err := createSchema(ctx, locker, schemas.Mirror); err != nil {
		return err
	}
	if err := upMirror(ctx, config, schemas.Mirror); err != nil {
		return fmt.Errorf("migrate schema %s: %w", schemas.Mirror, err)
	}
	if err := upQueue(ctx, config, schemas.Queue); err != nil {
		return fmt.Errorf("migrate schema %s: %w", schemas.Queue, err)
	}
	return nil
}

// createSchema looks first: CREATE SCHEMA IF NOT EXISTS demands CREATE on the database even where the schema exists.
func createSchema(ctx context.Context, conn *pgx.Conn, name string) error {
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regnamespace(quote_ident($1)) IS NOT NULL`, name).Scan(&exists); err != nil {
		return fmt.Errorf("look for schema %s: %w", name, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE SCHEMA `+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create schema %s: %w", name, err)
	}
	return nil
}

// claimQueue notes whose queue it is: the workers of two mirrors would take each other's jobs.
func claimQueue(ctx context.Context, conn *pgx.Conn, schemas Schemas) error {
	table := pgx.Identifier{schemas.Queue, "leadgrid_mirror"}.Sanitize()
	var owner string
	err := conn.QueryRow(ctx, `SELECT schema FROM `+table).Scan(&owner)
	switch {
	case isUndefined(err):
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `CREATE TABLE `+table+` (schema text NOT NULL)`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `INSERT INTO `+table+` VALUES ($1)`, schemas.Mirror)
			return err
		})
	case err == nil && owner != schemas.Mirror:
		return fmt.Errorf("the queue in schema %s belongs to the mirror in schema %s, not to the one in %s: "+
			"set LEADGRID_QUEUE_SCHEMA to a schema of its own, or correct %s if the mirror's schema was renamed",
			schemas.Queue, owner, schemas.Mirror, table)
	}
	if err != nil {
		return fmt.Errorf("note whose queue schema %s is: %w", schemas.Queue, err)
	}
	return nil
}

func upMirror(ctx context.Context, config *pgx.ConnConfig, schema string) error {
	config = config.Copy()
	config.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versionTable))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func upQueue(ctx context.Context, config *pgx.ConnConfig, schema string) error {
	poolConfig, err := pgxpool.ParseConfig("")
	if err != nil {
		return err
	}
	poolConfig.ConnConfig = config.Copy()
	poolConfig.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema})
	if err != nil {
		return err
	}
	behind, err := queueBehind(ctx, pool, migrator, schema)
	if err != nil || !behind {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// Check returns nil if the schema is at least as new as this program needs, and ErrBehind if it is older.
func Check(ctx context.Context, pool *pgxpool.Pool, schemas Schemas) error {
	var have int64
	err := pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+
		pgx.Identifier{schemas.Mirror, versionTable}.Sanitize()+` WHERE is_applied`).Scan(&have)
	if isUndefined(err) || (err == nil && have < Newest()) {
		return ErrBehind
	}
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schemas.Queue})
	if err != nil {
		return err
	}
	behind, err := queueBehind(ctx, pool, migrator, schemas.Queue)
	switch {
	case err != nil:
		return fmt.Errorf("read queue schema version: %w", err)
	case behind:
		return ErrBehind
	}
	return nil
}

// queueBehind reports whether River's tables are older than this River. River's migrator cannot be asked: it fails on steps that
// it does not know, those of a newer release.
func queueBehind(ctx context.Context, pool *pgxpool.Pool, migrator *rivermigrate.Migrator[pgx.Tx], schema string) (bool, error) {
	var have int
	err := pool.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+pgx.Identifier{schema, "river_migration"}.Sanitize()+
		` WHERE line = 'main'`).Scan(&have)
	if isUndefined(err) {
		return true, nil
	}
	all := migrator.AllVersions()
	return have < all[len(all)-1].Version, err
}

// Newest is the version of the last step in this program.
func Newest() int64 {
	names, err := fs.Glob(files, "*.sql")
	if err != nil || len(names) == 0 {
		panic("migrations: no SQL embedded")
	}
	version, err := goose.NumericComponent(names[len(names)-1])
	if err != nil {
		panic("migrations: " + err.Error())
	}
	return version
}

// isUndefined reports whether the error is about a table or schema that does not exist.
func isUndefined(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000")
}
