// Command sandbox is a stand-in LeadGrid: the whole API with made-up data behind it, for demos, tests and development. It is
// package leadgridtest as a program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

// run serves until the context ends. It prints to out how to use it, and logs requests to log.
func run(ctx context.Context, args []string, env func(string) (string, bool), out, log io.Writer) error {
	if len(args) == 1 && args[0] == "--version" { // not a flag, since every flag may be an environment variable
		fmt.Fprintln(out, "sandbox version", build.Read())
		return nil
	}
	conf, err := configure(args, env, out)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	if conf.quiet {
		logger = slog.New(slog.DiscardHandler)
	}
	listener, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return err
	}
	leadgrid := leadgridtest.NewHandler(leadgridtest.Options{
		Settings: conf.settings, Key: conf.key, Scopes: conf.scopes, Seed: conf.seed, Logger: logger, LedgerSize: 10_000,
	})
	defer leadgrid.Close()
	started := time.Now()
	leadgrid.Seed(conf.size)
	if conf.webhookURL != "" {
		leadgrid.RegisterWebhook(conf.webhookURL, conf.webhookSecret)
	}
	conf.announce(out, listener.Addr(), time.Since(started))

	live, end := context.WithCancel(ctx)
	defer end()
	go leadgrid.Live(live, conf.live)

	server := &http.Server{Handler: leadgrid, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Requests under way may finish, but not those that a fault makes hang.
	leadgrid.Close()
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return server.Close()
	}
	return nil
}
