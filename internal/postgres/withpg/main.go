// Command withpg runs a command beside a throwaway Postgres, whose address it finds in TEST_DATABASE_URL:
//
//	withpg -- go test ./...
//
// It passes signals on and ends with the command's exit code. If TEST_DATABASE_URL is already set, it starts no server.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/leadgrid-sync/leadgrid-sync/internal/postgres"
)

const urlVariable = "TEST_DATABASE_URL"

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpg:", err)
	}
	os.Exit(code)
}

// run returns the exit code to end with; the error, if any, is withpg's own.
func run(args []string) (code int, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 2, errors.New("usage: withpg -- command [argument…]")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if os.Getenv(urlVariable) == "" {
		server, err := start(signals)
		if err != nil {
			return 1, err
		}
		defer func() {
			if stopErr := server.Stop(); stopErr != nil {
				err = stopErr
			}
		}()
		cmd.Env = append(os.Environ(), urlVariable+"="+server.URL("postgres"))
	}
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig) // it may just have ended
		case err := <-exited:
			return exitCode(err)
		}
	}
}

// start gives up on a signal, as nothing else would hear it yet.
func start(signals <-chan os.Signal) (*postgres.Server, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case sig := <-signals:
			cancel(fmt.Errorf("stopped by signal: %v", sig))
		case <-done:
		}
	}()
	server, err := postgres.Start(ctx, postgres.Options{})
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return nil, cause
	}
	return server, err
}

func exitCode(err error) (int, error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0, nil
	case !ok:
		return 1, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil // as a shell does
	}
	return exit.ExitCode(), nil
}
