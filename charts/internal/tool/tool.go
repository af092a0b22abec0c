// Package tool finds or builds the programs that the chart's tests need, and runs them beside a test.
package tool

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// program is how one is built: its package, in the module in dir, which is seen from charts/.
type program struct{ pkg, dir string }

const kubernetes = "cluster/kubernetes"

var programs = map[string]program{
	"helm":      {"helm.sh/helm/v4/cmd/helm", "."},
	"helm-docs": {"github.com/norwoodj/helm-docs/cmd/helm-docs", "."},
	"promtool":  {"github.com/prometheus/prometheus/cmd/promtool", "."},

	"etcd":                    {"go.etcd.io/etcd/server/v3", kubernetes},
	"kube-apiserver":          {"k8s.io/kubernetes/cmd/kube-apiserver", kubernetes},
	"kube-controller-manager": {"k8s.io/kubernetes/cmd/kube-controller-manager", kubernetes},
}

var (
	mu    sync.Mutex
	built = map[string]string{}
)

// root is the main module's folder.
func root() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..")
}

// Path finds a program: where the variable of its name says (HELM, KUBE_APISERVER), or in .tmp/bin, built if need be.
func Path(name string) (string, error) {
	mu.Lock()
	defer mu.Unlock()
	variable := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if path := cmp.Or(built[name], os.Getenv(variable)); path != "" {
		return path, nil
	}
	path := filepath.Join(root(), ".tmp", "bin", name)
	// Not go tool, which knows no tags: without this one promtool contains a client for every cloud.
	args := []string{"build", "-tags", "remove_all_sd", "-o", path}
	run := func(args ...string) (string, error) {
		cmd := exec.Command("go", args...)
		cmd.Dir = filepath.Join(root(), "charts", programs[name].dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build %s (or name one in %s): %w\n%s", name, variable, err, out)
		}
		return strings.TrimSpace(string(out)), nil
	}
	if programs[name].dir == kubernetes { // charts ask which version it is
		version, err := run("list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
		if err != nil {
			return "", err
		}
		args = append(args, "-ldflags", "-X k8s.io/component-base/version.gitVersion="+version)
	}
	if _, err := run(append(args, programs[name].pkg)...); err != nil {
		return "", err
	}
	built[name] = path
	return path, nil
}
