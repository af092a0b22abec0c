package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

type replayOptions struct {
	since, eventType string
	json             bool
}

func (p *program) replayCommand() *cobra.Command {
	var options replayOptions
	cmd := &cobra.Command{
		Use:   "replay --since T",
		Short: "Process stored webhook events again",
		Long: "Process stored webhook events again: what they name is read from LeadGrid once more. T is a time such as\n" +
			"2026-05-01T10:00:00Z, a day such as 2026-05-01 (UTC), or how long ago, such as 36h. A running worker does the work.",
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error { return p.replay(ctx, options) }),
	}
	cmd.Flags().StringVar(&options.since, "since", "", "replay what was received since then")
	cmd.Flags().StringVar(&options.eventType, "type", "", "replay only flushes with an event of this type, such as dossier.updated")
	cmd.Flags().BoolVar(&options.json, "json", false, "print the answer as JSON")
	return cmd
}

func (p *program) replay(ctx context.Context, options replayOptions) error {
	since, err := moment(options.since, time.Now())
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var config databaseConfig
	pool, err := open(ctx, &config, "leadgrid-replay")
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: config.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	var replayed events.Replayed
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		replayed, err = events.Replay(ctx, tx, client, since, options.eventType)
		return err
	})
	if err != nil {
		return err
	}
	if options.json {
		return json.NewEncoder(p.out).Encode(replayed)
	}
	if replayed.Events == 0 && options.eventType != "" {
		fmt.Fprintf(p.out, "no event of type %q is kept from since %s: look whether the type is right\n", options.eventType, since.UTC().Format(time.RFC3339))
		return nil
	}
	fmt.Fprintf(p.out, "%s events received since %s will be processed again; `worker status` shows how many still wait\n",
		number(replayed.Events), since.UTC().Format(time.RFC3339))
	return nil
}

// moment reads a time, a day, or how long ago.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, errors.New("say since when: --since 2026-05-01T10:00:00Z, --since 2026-05-01 or --since 36h")
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("--since %q is neither a time like 2026-05-01T10:00:00Z, nor a day like 2026-05-01, nor how long ago, like 36h", text)
}
