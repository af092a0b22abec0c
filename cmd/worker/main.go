// Command worker mirrors LeadGrid into Postgres: it runs the jobs, migrates the schema, asks for sweeps and shows how
// things stand.
//
// run.go is where `worker run` begins. Every other command has a file of its own name; `worker sync --wait` goes on in
// syncwait.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes. Scripts rely on them: they never change.
const (
	exitFailed      = 1   // the database, LeadGrid or the machine failed
	exitUsage       = 2   // a setting, flag or argument is wrong
	exitRefused     = 3   // LeadGrid refuses the key, or the plan has no API access
	exitScope       = 4   // the key lacks a scope
	exitForeign     = 5   // the key reads another organization than the one mirrored
	exitBreaker     = 6   // too much would have to be marked as deleted
	exitUnsettled   = 7   // a list kept changing, LeadGrid failed to give something, or another sweep took this one's place
	exitUntold      = 8   // verify could not find out whether the mirror is equal
	exitInterrupted = 130 // told to stop
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// ran marks an error of a command that was understood and begun. Any other error means that it was called wrongly.
type ran struct{ error }

func (e ran) Unwrap() error { return e.error }

// run is the whole program, apart from signals. It writes results to out; logs, progress and errors to errs.
func run(ctx context.Context, args []string, out, errs io.Writer) (code int) {
	p := &program{out: out, errs: errs}
	root := p.commands()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errs, "worker:", redact.Text(err))
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	_, wrongSettings := errors.AsType[*settings.Error](err)
	if _, begun := errors.AsType[ran](err); begun && !wrongSettings {
		return exitFailed
	}
	return exitUsage
}

// program is what the commands share.
type program struct {
	out, errs io.Writer
}

func (p *program) commands() *cobra.Command {
	root := &cobra.Command{
		Use:           "worker",
		Short:         "Mirror LeadGrid into Postgres",
		Long:          "Mirror LeadGrid into Postgres. Without a command it runs the jobs, like `worker run`.\nSettings come from the environment; docs/operations.md lists them.",
		Version:       build.Read().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          does(p.work),
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		&cobra.Command{
			Use:   "run",
			Short: "Run the jobs until told to stop",
			Args:  cobra.NoArgs,
			RunE:  does(p.work),
		},
		p.migrateCommand(),
		p.syncCommand(),
		p.statusCommand(),
		p.verifyCommand(),
		p.commandsCommand(),
		p.eraseCommand(),
		p.replayCommand(),
		&cobra.Command{
			Use:   "healthcheck [URL]",
			Short: "Ask a worker, by default the one on this machine, whether it is ready",
			Args:  cobra.MaximumNArgs(1),
			RunE: does(func(ctx context.Context, urls []string) error {
				return admin.Healthcheck(ctx, urls, adminAddr)
			}),
		},
		&cobra.Command{
			Use:   "mappings",
			Short: "Print which field goes to which column",
			Args:  cobra.NoArgs,
			RunE:  does(p.printMapping),
		},
	)
	return root
}

// oneID checks that a command got one id, and says whose otherwise.
func oneID(whose string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("give one id, that of %s: %s", whose, cmd.UseLine())
		}
		return nil
	}
}

// chosen gives what was named, if all of it is among what there is.
func chosen[T ~string](what string, names []string, all []T) ([]T, error) {
	var found []T
	for _, name := range names {
		i := slices.Index(all, T(name))
		if i < 0 {
			return nil, fmt.Errorf("there is no %s %q: choose from %v", what, name, all)
		}
		found = append(found, all[i])
	}
	return found, nil
}

// does makes a command of work, and marks its errors as ran.
func does(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := work(cmd.Context(), args); err != nil {
			return ran{err}
		}
		return nil
	}
}
