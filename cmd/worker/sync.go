package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

type syncOptions struct {
	wait, acceptDeletions bool
	resources             []string
}

func (p *program) syncCommand() *cobra.Command {
	var options syncOptions
	cmd := &cobra.Command{
		Use:   "sync [--wait] [--accept-deletions] [resource…]",
		Short: "Ask for a full reconciliation",
		Long: `Ask for a full reconciliation: everything LeadGrid lists is read, and the mirror is made equal to it. The first is
the backfill. Resources are flows (with their stages), dossiers, contacts, links and notes; without any, all of them.

With --wait it works on the sweep itself, beside a running worker or without one, shows progress, and ends with
  0    the mirror is equal
  1    something failed: the database, say
  2    a setting or an argument is wrong
  3    LeadGrid refuses the API key, or the plan has no API access
  4    the API key lacks a scope; everything else was read
  5    the API key reads another organization than the one mirrored
  6    too much is gone from LeadGrid at once: see --accept-deletions
  7    a list kept changing while it was read, or LeadGrid failed time and again to give something
  130  interrupted; the sweep goes on where it was as soon as a worker runs`,
		ValidArgs: sweep.ResourceNames,
		Args: func(_ *cobra.Command, names []string) error {
			_, err := chosen("resource", names, sweep.ResourceNames)
			return err
		},
		RunE: does(func(ctx context.Context, args []string) error {
			options.resources = args
			return p.sync(ctx, options)
		}),
	}
	cmd.Flags().BoolVar(&options.wait, "wait", false, "work on it, show progress and say how it ended")
	cmd.Flags().BoolVar(&options.acceptDeletions, "accept-deletions", false, "mark rows as deleted however many are gone from LeadGrid")
	return cmd
}

// syncing is one `worker sync` under way.
type syncing struct {
	*program
	pool   *pgxpool.Pool
	engine *jobs.Engine
	prober *observe.Observer
}

func (p *program) sync(ctx context.Context, options syncOptions) error {
	var config mirrorConfig
	pool, err := open(ctx, &config, "leadgrid-sync")
	if err != nil {
		return err
	}
	defer pool.Close()
	if config.Level > slog.LevelDebug {
		config.Level = slog.LevelError // the progress says the rest, in fewer words
	}
	engine, api, err := config.engine(pool, config.Logger(p.errs), prometheus.NewRegistry(), nil)
	if err != nil {
		return err
	}
	if err := engine.Mirror.CheckMapping(ctx); err != nil {
		return err
	}
	s := &syncing{
		program: p, pool: pool, engine: engine,
		prober: observe.New(api, engine.Mirror, engine.Gate).WithLimiter(engine.Budget.Share(budget.Sweeps)),
	}
	if !options.wait {
		return s.ask(ctx, options)
	}
	// Not ctx: if it ended, River would stop the jobs at once; below they get time to end.
	if err := engine.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	err = s.wait(ctx, options)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	return errors.Join(err, engine.Stop(drain))
}

// ask leaves the work to a running worker.
func (s *syncing) ask(ctx context.Context, options syncOptions) error {
	if err := s.engine.Gate.ProbeNow(ctx); err != nil {
		return err
	}
	id, err := s.request(ctx, options)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "sweep %d is asked for: a running worker does it, and `worker status` shows how far it is\n", id)
	return nil
}

func (s *syncing) request(ctx context.Context, options syncOptions) (id int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		id, err = jobs.RequestSweep(ctx, tx, s.engine.River, sweep.Full, options.resources, options.acceptDeletions)
		return err
	})
	return id, err
}

// verdict reports how the sweep ended; its error carries the exit code.
func (s *syncing) verdict(one *sweep.Sweep) error {
	if one.State == sweep.Done {
		took := time.Duration(0)
		if one.StartedAt != nil && one.FinishedAt != nil {
			took = one.FinishedAt.Sub(*one.StartedAt).Round(100 * time.Millisecond)
		}
		fmt.Fprintf(s.out, "the mirror is equal: sweep %d took %v and %s requests, changed %s rows and marked %s as deleted\n",
			one.ID, took, number(one.Requests), number(one.RowsChanged), number(one.RowsDeleted))
		return nil
	}
	message := fmt.Sprintf("sweep %d ended as %s", one.ID, one.State)
	if one.Message != nil {
		message = *one.Message
	}
	code := exitBreaker
	switch {
	case one.State != sweep.Stopped, len(one.Progress.Refused) == 0 && len(one.Progress.Unclean) > 0:
		code = exitUnsettled
	case len(one.Progress.Refused) > 0:
		code = exitScope
	}
	return &exitError{code, errors.New(message)}
}
