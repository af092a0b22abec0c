package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain makes the test binary withpg itself when arguments follow "--".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "--" {
		main()
	}
	os.Exit(m.Run())
}

func withpg(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"--"}, args...)...)
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, urlVariable+"=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Stderr = os.Stderr
	return cmd
}

func TestRunsBesideAServer(t *testing.T) {
	t.Parallel()
	cmd := withpg("sh", "-c", `echo "$TEST_DATABASE_URL"; exit 7`)
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d (%v), want the command's 7", code, err)
	}
	if !strings.HasPrefix(string(out), "postgres://") {
		t.Errorf("%s = %q, want a URL", urlVariable, out)
	}
}

func TestUsesTheServerThatIsThere(t *testing.T) {
	t.Parallel()
	cmd := withpg("sh", "-c", `echo "$TEST_DATABASE_URL"`)
	cmd.Env = append(cmd.Env, urlVariable+"=postgres:///elsewhere")
	if out, err := cmd.Output(); string(out) != "postgres:///elsewhere\n" || err != nil {
		t.Errorf("%s = %q, %v, want it unchanged", urlVariable, out, err)
	}
}

func TestPassesSignalsOn(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{
		`trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done`: 9,
		`echo ready; exec sleep 60`:                                    128 + int(syscall.SIGTERM),
	} {
		cmd := withpg("sh", "-c", script)
		cmd.Env = append(cmd.Env, urlVariable+"=unused")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !bufio.NewScanner(out).Scan() {
			t.Fatal("the command said nothing")
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%s: exit code %d, want %d", script, code, want)
		}
	}
}

func TestRefusesToRunNothing(t *testing.T) {
	t.Parallel()
	cmd := withpg()
	cmd.Stderr = nil
	if _, err := cmd.Output(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("exit code %d (%v), want 2", cmd.ProcessState.ExitCode(), err)
	}
	cmd = withpg("/no/such/command")
	cmd.Env = append(cmd.Env, urlVariable+"=unused")
	cmd.Stderr = nil
	if _, err := cmd.Output(); cmd.ProcessState.ExitCode() != 127 {
		t.Errorf("exit code %d (%v), want 127", cmd.ProcessState.ExitCode(), err)
	}
}
