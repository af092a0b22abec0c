// Faults plants defects in the programs, one at a time, and shows which check of the simulator catches each: a simulator
// that lets a known mistake pass would let an unknown one pass too.
//
// Nothing of a defect is in the source: they are edits that the compiler is given in place of the files (go build
// -overlay), all in one test binary, and one is switched on by the environment.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	seeds := flag.Int("seeds", 200, "how many seeds a defect may survive")
	doc := flag.String("doc", "", "write the table to this file")
	flag.Parse()
	if err := run(*seeds, *doc, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// catch says how a defect was caught.
type catch struct {
	defect
	seed   int // 0 if it was not
	checks []string
}

func (c catch) String() string {
	if c.seed == 0 {
		return "NOT CAUGHT"
	}
	return fmt.Sprintf("seed %-4d %s", c.seed, strings.Join(c.checks, "; "))
}

// Defects are tried side by side, each with so many seeds at once that one Postgres has connections for all.
const (
	sideBySide = 2
	seedsEach  = 7
)

func run(seeds int, doc string, names []string) error {
	folder, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	binary, err := build(folder)
	if err != nil {
		return err
	}
	lab := &lab{binary: binary, sound: make(map[int]bool)}
	chosen := slices.DeleteFunc(slices.Clone(defects), func(d defect) bool {
		return len(names) > 0 && !slices.Contains(names, d.name)
	})
	caught := make([]catch, len(chosen))
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for i, d := range chosen {
		group.Go(func() (err error) {
			began := time.Now()
			if caught[i], err = lab.try(d, seeds); err != nil {
				return err
			}
			fmt.Printf("%-18s %5v  %s\n", d.name, time.Since(began).Round(time.Second), caught[i])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	missed := 0
	for _, c := range caught {
		if c.seed == 0 {
			missed++
		}
	}
	if doc != "" {
		if err := os.WriteFile(doc, []byte(table(caught)), 0o644); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d defects were not caught", missed, len(caught))
	}
	return nil
}

// variable names the defect that is switched on.
const variable = "PLANTED_DEFECT"

// build makes the simulator's test binary with all defects in it.
func build(folder string) (binary string, err error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	files, err := plant(strings.TrimSpace(string(root)), defects)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for path, text := range files {
		replacement := filepath.Join(folder, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replacement, text, 0o600); err != nil {
			return "", err
		}
		replace[path] = replacement
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(folder, "simulate.test")
	output, err := exec.Command("go", "test", "-c", "-overlay", list, "-o", binary, "./internal/simulate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the simulator: %w\n%s", err, output)
	}
	return binary, nil
}

// plant gives the files below root as they are with the defects in them.
func plant(root string, defects []defect) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, d := range defects {
		for _, e := range d.edits {
			path := filepath.Join(root, e.file)
			text, ok := files[path]
			if !ok {
				var err error
				if text, err = os.ReadFile(path); err != nil {
					return nil, err
				}
			}
			if n := bytes.Count(text, []byte(e.from)); n != 1 {
				return nil, fmt.Errorf("%s: %s has this %d times, not once:\n%s", d.name, e.file, n, e.from)
			}
			files[path] = bytes.Replace(text, []byte(e.from), []byte(e.to), 1)
		}
	}
	for path, text := range files {
		_, after, _ := strings.Cut("\n"+string(text), "\npackage ")
		name, _, _ := strings.Cut(after, "\n")
		files[filepath.Join(filepath.Dir(path), "planted_defects.go")] = fmt.Appendf(nil,
			"package %s\n\nimport \"os\"\n\nfunc planted(name string) bool { return os.Getenv(%q) == name }\n", name, variable)
	}
	return files, nil
}

var (
	failed  = regexp.MustCompile(`(?m)^ +--- FAIL: TestSimulate/(\d+) .*\n((?: {8,}.*\n?)*)`)
	message = regexp.MustCompile(`(?m)^ +simulate_test\.go:\d+: (.*)$`)
)

// lab simulates.
type lab struct {
	binary string

	mu    sync.Mutex
	sound map[int]bool // seeds that were played without any defect: whether they passed
}

// try simulates until the defect is caught: first the seeds that caught it before, then a few at a time. A seed that fails
// without it as well catches nothing, and one that only does not end says little: a better one is looked for in the batch.
func (l *lab) try(d defect, seeds int) (catch, error) {
	batches := [][]int{d.seeds}
	for first, batch := 1, 6; first <= seeds; first, batch = first+batch, min(2*batch, 36) {
		var next []int
		for seed := first; seed <= min(first+batch-1, seeds); seed++ {
			next = append(next, seed)
		}
		batches = append(batches, next)
	}
	for _, batch := range batches {
		caught, err := l.catches(d, batch)
		if err != nil {
			return catch{}, err
		}
		for _, c := range caught {
			sound, err := l.soundWithout(c.seed)
			if err != nil {
				return catch{}, err
			}
			if sound {
				return c, nil
			}
		}
	}
	return catch{defect: d}, nil
}

// catches plays seeds with a defect and lists those that failed, the most telling first.
func (l *lab) catches(d defect, seeds []int) (caught []catch, err error) {
	if len(seeds) == 0 {
		return nil, nil
	}
	output, err := l.simulate(d.name, seeds)
	if err == nil {
		return nil, nil
	}
	for _, failure := range failed.FindAllSubmatch(output, -1) {
		seed, err := strconv.Atoi(string(failure[1]))
		if err != nil {
			return nil, err
		}
		caught = append(caught, catch{d, seed, checks(failure[2])})
	}
	if caught == nil {
		return nil, fmt.Errorf("%s: the simulator ended with %w:\n%s", d.name, err, output)
	}
	slices.SortFunc(caught, func(a, b catch) int {
		return cmp.Or(cmp.Compare(a.stuck(), b.stuck()), cmp.Compare(a.seed, b.seed))
	})
	return caught, nil
}

// soundWithout says whether a seed passes without any defect.
func (l *lab) soundWithout(seed int) (sound bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock() // while it plays, too: another would play the same
	if sound, known := l.sound[seed]; known {
		return sound, nil
	}
	output, err := l.simulate("", []int{seed})
	if err != nil && !failed.Match(output) {
		return false, fmt.Errorf("without a defect the simulator ended with %w:\n%s", err, output)
	}
	l.sound[seed] = err == nil
	return l.sound[seed], nil
}

// stuck is 1 if all that was noticed is that the run did not end.
func (c catch) stuck() int {
	if len(c.checks) == 1 && c.checks[0] == doesNotEnd {
		return 1
	}
	return 0
}

// simulate plays seeds with a defect switched on, or none.
func (l *lab) simulate(defect string, seeds []int) (output []byte, err error) {
	only := make([]string, len(seeds))
	for i, seed := range seeds {
		only[i] = strconv.Itoa(seed)
	}
	cmd := exec.Command(l.binary, "-test.run", "^TestSimulate$", "-test.timeout", "0", "-at-once", strconv.Itoa(seedsEach), "-only", strings.Join(only, ","))
	cmd.Env = append(os.Environ(), variable+"="+defect)
	return cmd.CombinedOutput()
}

// doesNotEnd is the check that every run has: an error, or a wait that took too long.
const doesNotEnd = "the run does not end"

var (
	quoted = regexp.MustCompile(`"[^"]*"`)
	ids    = regexp.MustCompile(`\b(flows|stages|dossiers|contacts|notes|dossier_contacts|event|stage|dossier) \S+ `)
	values = regexp.MustCompile(` is .*, should be .*`)
	digits = regexp.MustCompile(`\d+(\.\d+)?(ms|s|µs)?`)
)

// checks lists the kinds of complaint in a failed seed's output.
func checks(output []byte) (kinds []string) {
	for _, line := range message.FindAllSubmatch(output, -1) {
		text := string(line[1])
		if strings.HasPrefix(text, "repeat it with") || strings.HasPrefix(text, "habits") || strings.Contains(text, " requests, ") {
			continue
		}
		promise, rest, ok := strings.Cut(text, ":")
		if !ok || strings.HasPrefix(text, "seed ") {
			promise, rest = doesNotEnd, ""
		}
		rest = values.ReplaceAllString(quoted.ReplaceAllString(rest, "…"), " is different")
		rest = digits.ReplaceAllString(ids.ReplaceAllString(rest, "$1 … "), "n")
		if kind := strings.TrimSpace(promise + ":" + rest); !slices.Contains(kinds, kind) && len(kinds) < 3 {
			kinds = append(kinds, strings.TrimSuffix(kind, ":"))
		}
	}
	return kinds
}

func table(caught []catch) string {
	var b strings.Builder
	b.WriteString(`# Planted defects

Each row is a mistake that somebody could make, planted on purpose (internal/simulate/faults), and a seed of the simulator
that catches it, by which of its checks; the same seed passes without the defect. Written by
` + "`make faults FAULTS='-doc docs/faults.md'`" + `.

| defect | what is wrong | seed | caught by |
|---|---|---|---|
`)
	for _, c := range caught {
		seed := "not caught"
		if c.seed > 0 {
			seed = strconv.Itoa(c.seed)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.name, c.what, seed, strings.ReplaceAll(strings.Join(c.checks, "; "), "|", "/"))
	}
	return b.String()
}
