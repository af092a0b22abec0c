package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

func (p *program) commandsCommand() *cobra.Command {
	var states []string
	var asJSON bool
	list := &cobra.Command{
		Use:   "commands",
		Short: "List write-back commands that are not done",
		Long: "List write-back commands: those under way, those that were refused, and those whose outcome is unknown, with the\n" +
			"evidence. The table commands has the rest of them.",
		Args: cobra.NoArgs,
		RunE: does(func(ctx context.Context, _ []string) error { return p.listCommands(ctx, states, asJSON) }),
	}
	list.Flags().StringSliceVar(&states, "state", []string{"pending", "sending", "unknown", "refused"}, "list commands in this state (may be repeated)")
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	plan := &cobra.Command{
		Use:   "plan",
		Short: "Show what pending updates would change, field by field",
		Long:  "Show what pending updates would change, field by field: what the mirror holds, what LeadGrid holds now, and what comes after.",
		Args:  cobra.NoArgs,
		RunE:  does(func(ctx context.Context, _ []string) error { return p.planCommands(ctx, asJSON) }),
	}
	plan.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	var decision writeback.Decision
	settle := &cobra.Command{
		Use:   "settle ID",
		Short: "Settle a command whose outcome is unknown",
		Long:  "Settle a command whose outcome is unknown, after looking in LeadGrid whether it was carried out.",
		Args:  oneID("the command"),
		RunE:  does(func(ctx context.Context, args []string) error { return p.settleCommand(ctx, args[0], decision) }),
	}
	settle.Flags().StringVar(&decision.Done, "done", "", "it was carried out, and this is the id of what LeadGrid made or changed")
	settle.Flags().BoolVar(&decision.Refused, "refused", false, "it was not carried out, and shall not be")
	settle.Flags().BoolVar(&decision.Retry, "retry", false, "it was not carried out, and shall be sent again")
	settle.MarkFlagsOneRequired("done", "refused", "retry")
	settle.MarkFlagsMutuallyExclusive("done", "refused", "retry")
	list.AddCommand(plan, settle)
	return list
}

// mostListed bounds the list; the newest commands, which need a look, come last.
const mostListed = 200

func (p *program) listCommands(ctx context.Context, names []string, asJSON bool) error {
	states, err := chosen("state", names, writeback.States)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var config databaseConfig
	pool, err := open(ctx, &config, "leadgrid-commands")
	if err != nil {
		return err
	}
	defer pool.Close()
	counts, err := writeback.Counts(ctx, pool)
	if err != nil {
		return err
	}
	commands, err := writeback.List(ctx, pool, states, mostListed)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(struct {
			Counts   []writeback.Count `json:"counts"`
			Commands []commandLine     `json:"commands"`
		}{counts, commandLines(commands)})
	}
	var parts []string
	for _, count := range counts {
		parts = append(parts, fmt.Sprintf("%s %s", number(count.Count), count.State))
	}
	fmt.Fprintln(p.out, strings.Join(parts, ", "))
	if len(commands) == 0 {
		return nil
	}
	fmt.Fprintln(p.out)
	grid := newGrid(p.out)
	grid.AppendHeader([]any{"command", "operation", "state", "about", "written", "attempts", "why"})
	for _, line := range commandLines(commands) {
		grid.AppendRow([]any{line.ID, line.Operation, line.State, line.About, line.CreatedAt.UTC().Format(time.DateTime), line.Attempts, line.Why})
		for _, found := range line.candidates() {
			grid.AppendRow([]any{"", "", "", found[0], "", "", "  " + found[1]})
		}
	}
	grid.Render()
	return nil
}

// commandLine is what is shown of a command. It leaves out everything that a person typed.
type commandLine struct {
	ID        string              `json:"id"`
	Operation writeback.Operation `json:"operation"`
	State     writeback.State     `json:"state"`
	About     string              `json:"about,omitempty"`
	CreatedAt time.Time           `json:"created_at"`
	SentAt    *time.Time          `json:"sent_at"`
	Attempts  int                 `json:"attempts"`
	Waits     bool                `json:"waits_for_a_person"`
	Why       string              `json:"why,omitempty"`
	Evidence  json.RawMessage     `json:"evidence,omitempty"`
}

func commandLines(commands []*writeback.Command) []commandLine {
	all := make([]commandLine, 0, len(commands))
	for _, c := range commands {
		line := commandLine{
			ID: c.ID, Operation: c.Operation, State: c.State, About: c.Subject(), CreatedAt: c.CreatedAt, SentAt: c.SentAt,
			Attempts: c.Attempts, Waits: c.Waits(), Evidence: c.Evidence,
		}
		if c.Error != nil {
			line.Why = *c.Error
		}
		if c.State == writeback.Unknown && !line.Waits {
			line.Why += " (being looked into)"
		}
		all = append(all, line)
	}
	return all
}

// candidates lists the objects that a look found: their ids, and how much each resembles what was sent.
func (l commandLine) candidates() (found [][2]string) {
	var evidence struct {
		Where      []string
		Candidates []struct{ ID, Likeness string }
	}
	if l.State != writeback.Unknown || json.Unmarshal(l.Evidence, &evidence) != nil {
		return nil
	}
	for _, candidate := range evidence.Candidates {
		found = append(found, [2]string{candidate.ID, candidate.Likeness})
	}
	if len(found) == 0 {
		found = append(found, [2]string{"", "nothing like it in " + strings.Join(evidence.Where, ", ")})
	}
	return found
}

func (p *program) planCommands(ctx context.Context, asJSON bool) error {
	var config mirrorConfig
	pool, err := open(ctx, &config, "leadgrid-commands")
	if err != nil {
		return err
	}
	defer pool.Close()
	_, api, err := p.reader(&config, pool)
	if err != nil {
		return err
	}
	plan, err := writeback.Plan(ctx, pool, api)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(plan)
	}
	if len(plan) == 0 {
		fmt.Fprintln(p.out, "no update is pending")
		return nil
	}
	grid := newGrid(p.out)
	grid.AppendHeader([]any{"command", "operation", "about", "field", "mirror", "LeadGrid now", "after", "problem"})
	for _, change := range plan {
		grid.AppendRow([]any{change.Command, change.Operation, change.ID, change.Field, string(change.Mirror), string(change.LeadGrid),
			string(change.After), change.Problem})
	}
	grid.Render()
	return nil
}

func (p *program) settleCommand(ctx context.Context, id string, decision writeback.Decision) error {
	var config mirrorConfig
	pool, err := open(ctx, &config, "leadgrid-commands")
	if err != nil {
		return err
	}
	defer pool.Close()
	observer, _, err := p.reader(&config, pool)
	if err != nil {
		return err
	}
	state, err := writeback.Settle(ctx, observer, id, decision)
	if errors.Is(err, writeback.ErrSettled) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "command %s is %s\n", id, state)
	return nil
}

// reader builds what reads LeadGrid within the shared budget, with or without a running worker.
func (p *program) reader(config *mirrorConfig, pool *pgxpool.Pool) (*observe.Observer, *leadgridapi.Client, error) {
	engine, api, err := config.engine(pool, config.Logger(p.errs), prometheus.NewRegistry(), nil)
	if err != nil {
		return nil, nil, err
	}
	api = api.WithLimiter(engine.Budget.Share(budget.WriteBack))
	return observe.New(api, engine.Mirror, engine.Gate), api, nil
}
