package main

import (
	"context"
	"fmt"
	"io"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
)

const usage = `receiver takes LeadGrid's webhooks. Settings come from the environment.

  receiver                     serve until told to stop
  receiver healthcheck [URL]   ask a receiver, by default the one on this machine, whether it is ready
  receiver --version           say what this is
`

// command carries out what the arguments ask for. Without any the receiver serves, which serve does.
func command(ctx context.Context, args []string, out io.Writer, serve func(context.Context) error) error {
	switch {
	case len(args) == 0:
		return serve(ctx)
	case len(args) == 1 && (args[0] == "--version" || args[0] == "version"):
		fmt.Fprintln(out, "receiver version", build.Read())
		return nil
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "help"):
		fmt.Fprint(out, usage)
		return nil
	case len(args) <= 2 && args[0] == "healthcheck":
		return admin.Healthcheck(ctx, args[1:], adminAddr)
	}
	return usageError(fmt.Sprintf("%q is not understood\n\n%s", args, usage))
}

// usageError is a mistake in the arguments.
type usageError string

func (e usageError) Error() string { return string(e) }
