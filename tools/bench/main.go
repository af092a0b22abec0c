// Command bench runs the benchmarks that compare ours with others, prints what came of them beside the targets, and writes
// both into docs/performance.md, with a chart. It is what `make bench` runs.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/perf/benchfmt"
)

// A suite is the benchmarks of one package.
type suite struct{ folder, names string }

var suites = []suite{
	{"cmd/receiver", "^BenchmarkReceiver"},
	{"sync/jobs", "^BenchmarkEvent$"},
	{"sync/sweep", "^BenchmarkSweep$"},
	{"internal/simulate", "^BenchmarkLimit$"},
	{"cmd/worker", "^BenchmarkScale$"},
	{"sync/writeback", "^BenchmarkCommands$"},
}

// A target is what a figure is held against.
type target struct {
	what, against string
	bench, unit   string // whose figure it is
	want          float64
	atMost        bool
	scale         string // "×", or the unit of an absolute figure
}

var targets = []target{
	{"acked events/s, 64 connections", "one River Insert per request", "Receiver/connections=64", "×naive", 6, false, "×"},
	{"acked events/s, 256 connections", "one River Insert per request", "Receiver/connections=256", "×naive", 6, false, "×"},
	{"acked events/s, 64 connections", "npm @supabase/stripe-sync-engine", "ReceiverPeer/connections=64", "×peer", 5, false, "×"},
	{"acked events/s, 256 connections", "npm @supabase/stripe-sync-engine", "ReceiverPeer/connections=256", "×peer", 5, false, "×"},
	{"acked events/s, 64 connections", "our receiver without a database", "Receiver/connections=64", "×none", .35, false, "×"},
	{"p99 of an ack, 64 connections", "one River Insert per request", "Receiver/connections=64", "×naive-p99", .3, true, "×"},
	{"p99 of an ack, 2,000 events/s offered, a worker beside", "one River Insert per request", "ReceiverOffered", "×naive-p99", .5, true, "×"},
	{"processor time per event, receiver and Postgres", "one River Insert per request", "Receiver/connections=64", "×naive-cpu", .14, true, "×"},
	{"processor time per event beside 1,000,000 stored", "beside 10,000 stored", "ReceiverGrown", "×cost", 1.2, true, "×"},
	{"memory of the receiver beside 1,000,000 stored events", "beside 10,000 stored", "ReceiverGrown", "×memory", 1.1, true, "×"},
	{"acked duplicates/s, 64 connections", "unique River Insert", "Receiver/connections=64/duplicates", "×naive", 8, false, "×"},
	{"p99 from an event's commit to its job's first request, 20/s", "River's defaults, to the job's start", "Event", "×default-p99", .04, true, "×"},
	{"p50 from an event's ack to its row", "", "Event", "visible-p50-ms", 10, true, " ms"},
	{"backfill of lists, rows/s", "one COPY of the same rows", "Sweep/lists", "×copy", .5, false, "×"},
	{"full sync over unchanged lists, rows/s", "one statement a row", "Sweep/lists", "×single", 45, false, "×"},
	{"WAL of a full sync over unchanged lists", "", "Sweep/lists", "WAL-B/row", 30, true, " B/row"},
	{"requests of a first full sync, 150 dossiers", "the least possible", "Limit", "×least-first-requests", 1.2, true, "×"},
	{"requests of a full sync after it", "the least possible", "Limit", "×least-requests", 1.2, true, "×"},
	{"time of a first full sync under an announced limit", "requests by limit", "Limit", "×least-first", 1.05, true, "×"},
	{"time of a full sync after it", "requests by limit", "Limit", "×least", 1.05, true, "×"},
	{"backfill of everything, rows/s", "one COPY of the same rows", "Sweep/everything", "×copy", .5, false, "×"},
	{"full sync over everything unchanged, rows/s", "one statement a row", "Sweep/everything", "×single", 45, false, "×"},
	{"WAL of a full sync over everything unchanged", "", "Sweep/everything", "WAL-B/row", 30, true, " B/row"},
	{"time of an event, 1,000,000 dossiers mirrored", "10,000", "Scale", "×event-time", 1.2, true, "×"},
	{"time of a page of unchanged dossiers, 1,000,000 mirrored", "10,000", "Scale", "×page-time", 1.2, true, "×"},
	{"memory of the worker in a backfill of 1,000,000 dossiers", "10,000", "Scale", "×backfill-memory", 1.1, true, "×"},
	{"memory of the worker in a sweep of 1,000,000 unchanged dossiers", "10,000", "Scale", "×sweep-memory", 1.1, true, "×"},
}

// needsNode is the benchmark that is left out, and says so, where node or npm is missing.
const needsNode = "ReceiverPeer"

// A figure is what was measured of a target.
type figure struct {
	target
	median, low, high float64
}

// met reports whether the median reaches the target.
func (f figure) met() bool { return f.atMost && f.median <= f.want || !f.atMost && f.median >= f.want }

// share is how far the figure goes towards its target: 1 is there, 2 twice as good.
func (f figure) share() float64 {
	if f.atMost {
		return f.want / f.median
	}
	return f.median / f.want
}

func (f figure) show(value float64) string {
	return strconv.FormatFloat(value, 'g', 3, 64) + f.scale
}

func (f figure) cells() []string {
	limit, met := "at least ", "yes"
	if f.atMost {
		limit = "at most "
	}
	if !f.met() {
		met = "**no**"
	}
	return []string{f.what, f.against, f.show(f.median), f.show(f.low) + " to " + f.show(f.high), limit + f.show(f.want), met}
}

var head = []string{"what", "against", "median", "spread", "target", "met"}

func main() {
	rounds := flag.Int("rounds", 5, "how often both sides of each comparison are measured")
	root := flag.String("root", "..", "the folder of the module")
	only := flag.String("only", "", "run the suite of this folder alone, and write nothing")
	flag.Parse()
	if err := run(*root, *only, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(root, only string, rounds int) error {
	measured := map[string]map[string]float64{}
	for _, s := range suites {
		if only != "" && s.folder != only {
			continue
		}
		if err := s.run(root, rounds, measured); err != nil {
			return err
		}
	}
	var figures []figure
	for _, t := range targets {
		values := measured[t.bench]
		median, ok := values[t.unit]
		if !ok {
			if only == "" && !strings.HasPrefix(t.bench, needsNode) {
				return fmt.Errorf("%s reported no %s", t.bench, t.unit)
			}
			continue
		}
		figures = append(figures, figure{t, median, values[t.unit+"-low"], values[t.unit+"-high"]})
	}
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, line := range append([][]string{head}, cells(figures)...) {
		fmt.Fprintln(table, strings.ReplaceAll(strings.Join(line, "\t"), "*", ""))
	}
	if err := table.Flush(); err != nil || only != "" {
		return err
	}
	if err := chart(figures, filepath.Join(root, "docs", "performance.svg")); err != nil {
		return err
	}
	return write(filepath.Join(root, "docs", "performance.md"), figures, rounds)
}

func cells(figures []figure) (lines [][]string) {
	for _, f := range figures {
		lines = append(lines, f.cells())
	}
	return lines
}

// run runs the suite's benchmarks, shows what they say, and adds their metrics to measured.
func (s suite) run(root string, rounds int, measured map[string]map[string]float64) error {
	fmt.Printf("\n%s, %d rounds\n", s.folder, rounds)
	cmd := exec.Command("go", "test", "./"+s.folder, "-run", "^$", "-bench", s.names, "-benchtime", strconv.Itoa(rounds)+"x", "-timeout", "0")
	cmd.Dir = root
	var output bytes.Buffer
	cmd.Stdout = io.MultiWriter(os.Stdout, &output)
	cmd.Stderr = os.Stderr
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt) // reaches the tests as well, which tidy up
	defer signal.Stop(interrupted)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", s.folder, err)
	}
	reader := benchfmt.NewReader(&output, s.folder)
	for reader.Scan() {
		switch result := reader.Result().(type) {
		case *benchfmt.Result:
			name := strings.TrimSuffix(string(result.Name), fmt.Sprintf("-%d", runtime.GOMAXPROCS(0)))
			measured[name] = map[string]float64{}
			for _, value := range result.Values {
				measured[name][value.Unit] = value.Value
			}
		case *benchfmt.SyntaxError:
			return result
		}
	}
	return reader.Err()
}

const (
	begin = "<!-- what follows is written by make bench -->\n"
	end   = "<!-- what comes before is written by make bench -->\n"
)

// write puts the table into the document, between its marks.
func write(path string, figures []figure, rounds int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(path + " lacks the marks between which the table goes")
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%s, %s/%s, %d processors, Postgres with fsync on, %d rounds:\n\n",
		time.Now().UTC().Format("2 January 2006"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), rounds)
	for _, line := range append([][]string{head, {"---", "---", "---", "---", "---", "---"}}, cells(figures)...) {
		fmt.Fprintf(&table, "| %s |\n", strings.Join(line, " | "))
	}
	table.WriteString("\n")
	return os.WriteFile(path, []byte(before+begin+"\n"+table.String()+end+after), 0o644)
}
