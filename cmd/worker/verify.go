package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/internal/verify"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
)

type verifyOptions struct {
	sample int
	json   bool
}

func (p *program) verifyCommand() *cobra.Command {
	var options verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [--sample N] [--json]",
		Short: "Read LeadGrid again and compare the mirror with it",
		Long: `Read everything LeadGrid lists, and hold it against the mirror field by field. Nothing is written to the mirror, and no
value is printed: ids and names of fields only. What differs is looked at again before it is reported, since people may
be at work. It uses the sweeps' share of the API budget, and ends with
  0    the mirror is equal
  1    there are missing, extra or different rows
  2    a setting or an argument is wrong
  3    LeadGrid refuses the API key, or the plan has no API access
  4    the API key lacks a scope
  5    the API key reads another organization than the one mirrored
  8    it cannot be told: the database or LeadGrid did not do what it should
  130  interrupted`,
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error { return p.verify(ctx, options) }),
	}
	cmd.Flags().IntVar(&options.sample, "sample", 0,
		"compare links, notes and fields that lists hide for this many dossiers and contacts only, picked at random")
	cmd.Flags().BoolVar(&options.json, "json", false, "print the report as JSON")
	return cmd
}

func (p *program) verify(ctx context.Context, options verifyOptions) error {
	if options.sample < 0 {
		return &exitError{exitUsage, errors.New("--sample must not be negative")}
	}
	var config mirrorConfig
	if err := settings.Load(&config); err != nil {
		return err
	}
	report, err := p.compare(ctx, &config, options)
	if err != nil {
		return untold(ctx, err)
	}
	if options.json {
		if err := p.printJSON(report); err != nil {
			return untold(ctx, err)
		}
	} else {
		p.printReport(report)
	}
	if n := len(report.Findings); n > 0 {
		return &exitError{exitFailed, fmt.Errorf("the mirror is not equal: %s differences", number(n))}
	}
	return nil
}

func (p *program) compare(ctx context.Context, config *mirrorConfig, options verifyOptions) (*verify.Report, error) {
	pool, err := openMirror(ctx, config.Database, "leadgrid-verify")
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	config.Level = max(config.Level, slog.LevelWarn)
	engine, api, err := config.engine(pool, config.Logger(p.errs), prometheus.NewRegistry(), nil)
	if err != nil {
		return nil, err
	}
	if err := engine.Mirror.CheckMapping(ctx); err != nil {
		return nil, err
	}
	mapping, err := config.Mappings.Load()
	if err != nil {
		return nil, err
	}
	sharing, stop := context.WithCancel(ctx)
	var shared sync.WaitGroup
	shared.Go(func() { _ = engine.Budget.Run(sharing) }) // its error only says that it was stopped
	defer func() {
		stop()
		shared.Wait()
	}()
	return verify.Run(ctx, pool, api.WithLimiter(engine.Budget.Share(budget.Sweeps)), verify.Options{Sample: options.sample, Mapping: mapping})
}

// untold gives an error that kept verify from comparing anything an exit code other than that of found differences.
func untold(ctx context.Context, err error) error {
	code := exitUntold
	switch {
	case ctx.Err() != nil:
		code = exitInterrupted
	case errors.Is(err, leadgridapi.ErrUnauthorized), errors.Is(err, leadgridapi.ErrPlanRequired):
		code, err = exitRefused, fmt.Errorf("LeadGrid refuses the API key, or the plan: %w", err)
	case errors.Is(err, leadgridapi.ErrForbidden):
		code, err = exitScope, fmt.Errorf("the API key lacks a scope: %w", err)
	case errors.Is(err, verify.ErrOtherOrganization):
		code = exitForeign
	}
	return &exitError{code, err}
}

func (p *program) printReport(report *verify.Report) {
	if len(report.Findings) > 0 {
		grid := newGrid(p.out, "table", "id", "problem", "fields")
		grid.SetColumnConfigs(nil)
		for _, finding := range report.Findings {
			grid.AppendRow([]any{finding.Table, finding.ID, finding.Problem, strings.Join(finding.Fields, ", ")})
		}
		grid.Render()
		fmt.Fprintln(p.out)
	}
	grid := newGrid(p.out, "table", "compared", "erased")
	for _, table := range mappings.Kinds {
		counts := report.Tables[string(table)]
		grid.AppendRow([]any{table, number(counts.Compared), number(counts.Erased)})
	}
	grid.Render()
	if report.EventsWaiting > 0 {
		fmt.Fprintf(p.out, "%s webhook events are still to be worked on\n", number(report.EventsWaiting))
	}
	if len(report.Findings) == 0 {
		fmt.Fprintf(p.out, "the mirror is equal (%s requests)\n", number(report.Requests))
	}
}
