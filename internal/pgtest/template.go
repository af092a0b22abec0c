package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/leadgrid-sync/leadgrid-sync/migrations"
)

// templateLock is the advisory lock, in the maintenance database, that lets one package's tests make the template while the
// others wait for it.
const templateLock = 0x70677465_7374 // "pgtest"

// template returns the name of the migrated database to copy; the first caller makes it. It takes no connections, because a
// session on it would block copying.
func (h *host) template() (string, error) {
	h.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // not the first test's context: all tests share the template
		defer cancel()
		var mark string
		if mark, h.templateErr = fingerprint(migrations.Files()); h.templateErr != nil {
			return
		}
		h.templateName = "leadgrid_template_" + mark
		h.templateErr = h.makeTemplate(ctx, h.templateName)
	})
	return h.templateName, h.templateErr
}

func (h *host) makeTemplate(ctx context.Context, name string) error {
	locker, err := pgx.ConnectConfig(ctx, h.admin.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer locker.Close(context.WithoutCancel(ctx)) // and with it goes the lock
	if _, err := locker.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return err
	}
	var exists bool
	err = locker.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	// It gets its name only when it is complete. Remove what a killed process may have left.
	unfinished := name + "_new"
	if _, err := locker.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(unfinished)+" WITH (FORCE)"); err != nil {
		return err
	}
	if err := h.create(ctx, unfinished, "template0"); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(h.url(unfinished))
	if err != nil {
		return err
	}
	if err := migrations.Up(ctx, config, Schemas); err != nil {
		return err
	}
	for _, sql := range []string{
		"ALTER DATABASE " + quote(unfinished) + " ALLOW_CONNECTIONS false",
		"ALTER DATABASE " + quote(unfinished) + " RENAME TO " + quote(name),
	} {
		if _, err := locker.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint changes with our migrations and with River's, so that a server that outlives a test run never offers an
// outdated template.
func fingerprint(files fs.FS) (string, error) {
	hash := sha256.New()
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(content), content)
	}
	river, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	if err != nil {
		return "", err
	}
	for _, version := range river.AllVersions() {
		fmt.Fprintln(hash, version.Version, version.SQLUp)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

// withDatabase exchanges the database in a Postgres URL.
func withDatabase(address, database string) string {
	u, err := url.Parse(address)
	if err != nil { // the pool has parsed it before us
		panic("pgtest: " + err.Error())
	}
	u.Path = "/" + database
	return u.String()
}
