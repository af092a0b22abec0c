package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What the stand-in and the programs agree on. Nobody else can reach them.
const (
	standInKey    = "lg_live_demo"
	webhookSecret = "whsec_demo"
	adminPassword = "demo"
)

// environment is the programs' environment: our own, overridden where the demo decides.
func (d *demo) environment() []string {
	told := map[string]string{
		"DATABASE_URL": d.database, "LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0",
		"ADMIN_USER": "admin", "ADMIN_PASSWORD": adminPassword, "LOG_FORMAT": "json",
	}
	switch {
	case d.leadgrid != nil:
		told["LEADGRID_BASE_URL"], told["LEADGRID_API_KEY"] = d.leadgrid.URL(), standInKey
		told["LEADGRID_WEBHOOK_SECRET"] = webhookSecret
		told["LEADGRID_LAG"] = "1s" // the stand-in has no replicas
	default:
		if !d.WebhookSecret.IsSet() {
			told["LEADGRID_WEBHOOK_SECRET"] = webhookSecret
		}
		if address := os.Getenv("LISTEN_ADDR"); address != "" {
			told["LISTEN_ADDR"] = address
		}
	}
	env := make([]string, 0, len(os.Environ())+len(told))
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if _, ours := told[strings.TrimSuffix(name, "_FILE")]; !ours {
			env = append(env, entry)
		}
	}
	for name, value := range told {
		env = append(env, name+"="+value)
	}
	return env
}

// watchdog runs a program until the watchdog's standard input ends. That is when the demo closes it or dies, so not even
// kill -9 of the demo leaves a program behind. The program alone holds file 3 open, which shows when it has ended.
const watchdog = `"$@" </dev/null & program=$!; exec 3>&-; read -r _; kill -TERM "$program" 2>/dev/null; wait "$program"`

// stopTimeout is longer than a program takes to finish its work.
const stopTimeout = 40 * time.Second

// child is a program that was started.
type child struct {
	name   string
	cmd    *exec.Cmd
	orders io.Closer
	log    string        // the path of its log, empty if it writes to the terminal
	exited chan struct{} // closed when the program has ended

	webhooks, admin string // where it listens
}

// launch starts one of the programs in this one's folder, and asks it to end when ctx does. Without a log it writes to the
// demo's own output.
func (d *demo) launch(ctx context.Context, log *os.File, name string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("there is no %s beside the demo: run `make demo`", name)
	}
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, exited: make(chan struct{})}
	c.cmd = exec.Command("/bin/sh", append([]string{"-c", watchdog, "sh", program}, args...)...)
	c.cmd.Env = d.env
	c.cmd.ExtraFiles = []*os.File{held}
	// A group of its own, or Ctrl-C would reach it before us.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Stdout, c.cmd.Stderr = os.Stdout, os.Stderr
	if log != nil {
		c.cmd.Stdout, c.cmd.Stderr, c.log = log, log, log.Name()
	}
	if c.orders, err = c.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, alive.Close(), held.Close())
	}
	err = c.cmd.Start()
	held.Close()
	if err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	go func() {
		_, _ = io.Copy(io.Discard, alive)
		alive.Close()
		close(c.exited)
	}()
	context.AfterFunc(ctx, func() { _ = c.orders.Close() }) // all at once, as each takes its time
	return c, nil
}

// execute runs a program and waits for its end.
func (d *demo) execute(ctx context.Context, log *os.File, name string, args ...string) error {
	if log != nil {
		defer log.Close()
	}
	c, err := d.launch(ctx, log, name, args...)
	if err != nil {
		return err
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
	}
	err = c.stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// start starts a program that keeps running, and returns once its log says where it listens.
func (d *demo) start(ctx context.Context, name string, args ...string) (*child, error) {
	log := d.folderLog(name)
	defer log.Close()
	c, err := d.launch(ctx, log, name, args...)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !c.listening() {
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.stop())
		case <-c.exited:
			return nil, c.failed()
		case <-tick.C:
		}
	}
	return c, nil
}

// listening finds in the log where the program listens: it takes whichever ports are free.
func (c *child) listening() bool {
	log, err := os.Open(c.log)
	if err != nil {
		return false
	}
	defer log.Close()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line struct{ Msg, Webhooks, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			c.webhooks, c.admin = line.Webhooks, line.Admin
			return true
		}
	}
	return false
}

// folderLog makes a program's log file. Without one (nil) the program would log to the terminal.
func (d *demo) folderLog(name string) *os.File {
	log, err := os.Create(filepath.Join(d.folder, name+".log"))
	if err != nil {
		return nil
	}
	return log
}

// stop asks the program to end, and waits until it has.
func (c *child) stop() error {
	_ = c.orders.Close()
	timer := time.AfterFunc(stopTimeout, func() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w%s", c.name, err, c.tail())
	}
	return nil
}

// failed is the error for a program that ended by itself, with the end of its log.
func (c *child) failed() error {
	return fmt.Errorf("the %s ended by itself%s", c.name, c.tail())
}

func (c *child) tail() string {
	log, err := os.ReadFile(c.log)
	if err != nil || len(log) == 0 {
		return ""
	}
	const enough = 2000
	return "; it said last:\n" + string(log[max(0, len(log)-enough):])
}
