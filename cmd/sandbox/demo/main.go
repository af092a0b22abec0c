// Command demo shows the whole of leadgrid-sync on one machine: a LeadGrid, a Postgres, the receiver and the worker, the
// backfill, and a change that arrives by webhook. `make demo` builds the programs it needs beside it and runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

const exitInterrupted = 130

func main() {
	// HUP too: a closed terminal must leave nothing behind either.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	d, err := prepare(os.Stdout)
	if err == nil {
		hush := context.AfterFunc(ctx, func() { fmt.Fprintln(d.out, "\nstopping …") })
		err = d.run(ctx)
		hush()
		err = errors.Join(err, d.cleanUp())
	}
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintln(os.Stderr, "demo: stopped before the end")
		os.Exit(exitInterrupted)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// config holds the demo's settings.
type config struct {
	DatabaseURL   settings.Secret `envconfig:"DATABASE_URL" desc:"a Postgres to mirror into, instead of one of the demo's own"`
	Schema        string          `envconfig:"LEADGRID_SCHEMA" default:"leadgrid" desc:"the schema of the mirrored tables"`
	Key           settings.Secret `envconfig:"LEADGRID_API_KEY" desc:"the key of a real LeadGrid, instead of the stand-in"`
	WebhookSecret settings.Secret `envconfig:"LEADGRID_WEBHOOK_SECRET" desc:"the real LeadGrid's webhook secret"`
	Seconds       uint            `envconfig:"DEMO_SECONDS" desc:"end by itself so many seconds after the backfill"`
}

// demo holds everything that runs and has to be stopped.
type demo struct {
	config
	out io.Writer

	folder   string // logs
	leadgrid *leadgridtest.Server
	postgres *postgres.Server
	database string
	pool     *pgxpool.Pool
	env      []string // of the programs
	receiver *child
	worker   *child
}

func prepare(out io.Writer) (*demo, error) {
	d := &demo{out: out}
	if err := settings.Load(&d.config); err != nil {
		return nil, err
	}
	var err error
	d.folder, err = os.MkdirTemp("", "leadgrid-demo-")
	return d, err
}

// run shows everything in turn. It returns nil when the time is up or the user ends it, but not before all was shown.
func (d *demo) run(ctx context.Context) error {
	d.startLeadGrid()
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	d.env = d.environment()
	if err := d.startPrograms(ctx); err != nil {
		return err
	}
	if err := d.backfill(ctx); err != nil {
		return err
	}
	return d.live(ctx)
}

// The stand-in's size and limit: the backfill takes some 2,100 requests, and so a quarter of a minute.
var (
	size   = leadgridtest.Size{Dossiers: 1000, Contacts: 2000, Links: 1500, Notes: 5000}
	limits = leadgridtest.Limits{Requests: 9000, Window: time.Minute}
)

func (d *demo) startLeadGrid() {
	if d.Key.IsSet() {
		d.say("LeadGrid", "the real one, of your API key")
		return
	}
	d.leadgrid = leadgridtest.New(leadgridtest.Options{
		Key: standInKey, Seed: 1, LedgerSize: 1000, Settings: leadgridtest.Settings{Limits: limits},
	})
	d.leadgrid.Seed(size)
	d.say("LeadGrid", "a stand-in with %d dossiers, %d contacts and %d notes, at %s; it takes %d requests a minute",
		size.Dossiers, size.Contacts, size.Notes, d.leadgrid.URL(), limits.Requests)
}

func (d *demo) startPostgres(ctx context.Context) error {
	if d.DatabaseURL.IsSet() {
		d.database = d.DatabaseURL.Value()
		d.say("Postgres", "yours, schema %s", d.Schema)
	} else {
		began := time.Now()
		var err error
		if d.postgres, err = postgres.Start(ctx, postgres.Options{Durable: true}); err != nil {
			return err
		}
		d.database = d.postgres.URL("postgres")
		d.say("Postgres", "one of its own, up after %v", since(began))
	}
	var err error
	d.pool, err = settings.Database{
		URL: settings.NewSecret(d.database), Schema: d.Schema, MaxConns: 4,
	}.Open(ctx, "leadgrid-demo")
	return err
}

// startPrograms migrates and starts the receiver and the worker, as an administrator would.
func (d *demo) startPrograms(ctx context.Context) (err error) {
	if err := d.execute(ctx, d.folderLog("migrate"), "worker", "migrate"); err != nil {
		return err
	}
	if d.receiver, err = d.start(ctx, "receiver"); err != nil {
		return err
	}
	if d.worker, err = d.start(ctx, "worker", "run"); err != nil {
		return err
	}
	webhooks := "http://" + d.receiver.webhooks + "/webhooks/leadgrid"
	d.say("receiver", "%s", webhooks)
	d.say("worker", "http://%s/", d.worker.admin)
	if d.leadgrid != nil {
		d.leadgrid.RegisterWebhook(webhooks, webhookSecret)
	}
	return nil
}

// backfill reads everything LeadGrid has, and compares the mirror with the stand-in's data if that is what runs.
func (d *demo) backfill(ctx context.Context) error {
	fmt.Fprint(d.out, "\nBackfill: worker sync --wait\n\n")
	if err := d.execute(ctx, nil, "worker", "sync", "--wait"); err != nil {
		return fmt.Errorf("the backfill: %w", err)
	}
	if d.leadgrid == nil {
		return nil
	}
	truth := oracle.Truth(d.leadgrid.Snapshot())
	differences, err := oracle.Differences(ctx, d.pool, truth, oracle.Options{})
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		return fmt.Errorf("the mirror is not complete: %d differences, the first: %s", len(differences), differences[0])
	}
	rows := 0
	for _, table := range truth {
		rows += len(table)
	}
	_, _ = english.Fprintf(d.out, "held against the stand-in: all %d rows are there, equal field for field\n", rows)
	return nil
}

// live shows changes arriving until the time is up.
func (d *demo) live(ctx context.Context) error {
	if d.Seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(d.Seconds)*time.Second)
		defer cancel()
	}
	if d.leadgrid == nil {
		if err := d.lookAround(ctx); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "\nChange something in LeadGrid: its webhooks have to reach http://%s/webhooks/leadgrid.\n"+
			"Ctrl-C ends the demo.\n", d.receiver.webhooks)
		return d.rest(ctx)
	}
	fmt.Fprint(d.out, "\nA change in LeadGrid\n\n")
	if err := d.change(ctx); err != nil {
		return err
	}
	if err := d.lookAround(ctx); err != nil {
		return err
	}
	fmt.Fprint(d.out, "\nPeople at work: two edits a second, and every few seconds one that is timed. Ctrl-C ends the demo.\n\n")
	go d.leadgrid.Live(ctx, 2)
	tick := time.NewTicker(4 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.receiver.exited:
			return d.receiver.failed()
		case <-d.worker.exited:
			return d.worker.failed()
		case <-tick.C:
			if err := d.change(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// rest waits until the time is up or a program has ended.
func (d *demo) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.receiver.exited:
		return d.receiver.failed()
	case <-d.worker.exited:
		return d.worker.failed()
	}
}

// cleanUp stops and removes everything, dependents first.
func (d *demo) cleanUp() error {
	var errs []error
	for _, c := range []*child{d.worker, d.receiver} {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	if d.leadgrid != nil {
		d.leadgrid.Close()
	}
	if d.pool != nil {
		d.pool.Close()
	}
	if d.postgres != nil {
		errs = append(errs, d.postgres.Stop())
	}
	errs = append(errs, os.RemoveAll(d.folder))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if d.DatabaseURL.IsSet() {
		fmt.Fprintf(d.out, "stopped; the mirror stays in schema %s of your database\n", d.Schema)
	} else {
		fmt.Fprintln(d.out, "stopped: no process and no file is left")
	}
	return nil
}

// english writes counts with commas.
var english = message.NewPrinter(language.English)

func (d *demo) say(what, format string, args ...any) {
	_, _ = english.Fprintf(d.out, "%-10s %s\n", what, english.Sprintf(format, args...))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
