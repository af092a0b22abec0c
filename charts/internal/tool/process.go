package tool

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience allows for slow machines with other things to do.
const patience = 8 * time.Minute

// Eventually waits for a condition. It ends the test, saying what is missing, when that takes too long or the test has
// failed meanwhile, as it does when a program of Start ends.
func Eventually(t *testing.T, condition func() bool, missing func() string) {
	t.Helper()
	for deadline := time.After(patience); !condition(); {
		if t.Failed() {
			t.Fatal("gave up waiting: " + missing())
		}
		select {
		case <-deadline:
			t.Fatal("waited in vain: " + missing())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Output collects what a program prints; it may be read while the program runs.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Last is the end of the output: at most n bytes.
func (o *Output) Last(n int) string {
	text := o.String()
	return text[max(0, len(text)-n):]
}

// Start runs a program until the test ends, with env added to the environment. A program that ends sooner fails the test.
func Start(t *testing.T, env []string, path string, args ...string) *Output {
	t.Helper()
	out, name := &Output{}, filepath.Base(path)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopping, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := cmd.Wait()
		select {
		case <-stopping:
		default:
			t.Errorf("%s ended by itself: %v", name, err)
		}
	}()
	t.Cleanup(func() {
		close(stopping)
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		if t.Failed() {
			t.Logf("the end of what %s printed:\n%s", name, out.Last(4000))
		}
	})
	return out
}

// Build compiles packages of the main module, given as its root sees them, into dir.
func Build(t *testing.T, dir string, packages ...string) {
	t.Helper()
	build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	build.Dir = root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}
