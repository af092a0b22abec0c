// Package charts_test checks the chart as its users meet it: rendered by helm, read by Kubernetes' own types.
package charts_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

const chart = "leadgrid-sync"

// run is a command of one of the tools.
func run(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := tool.Path(name)
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, args...)
}

// golden holds a file against what it is rendered from; UPDATE=1 writes it.
func golden(t *testing.T, path string, want []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what its sources say; run UPDATE=1 make chart (-sources +file)\n%s", path, diff)
	}
}

// helm runs helm; its error is what helm said.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := run(t, "helm", args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("helm %s: %s%s", args[0], stderr.String(), stdout.String())
	}
	return stdout.String(), nil
}

// minimal is the least that has to be set.
const minimal = `
image: {repository: platform/leadgrid-sync}
secrets: {existingSecret: mine}
`

// render gives the manifests for values, which come on top of minimal, installed as release rel in namespace crm.
func render(t *testing.T, values string, flags ...string) manifests {
	t.Helper()
	rendered, err := tryRender(t, values, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

func tryRender(t *testing.T, values string, flags ...string) (manifests, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "values") // not t.TempDir: helm cuts the path at a comma
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	args := []string{"template", "rel", chart, "--namespace", "crm"}
	for i, content := range []string{minimal, values} {
		path := filepath.Join(dir, fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--values", path)
	}
	out, err := helm(t, append(args, flags...)...)
	if err != nil {
		return nil, err
	}
	return split(t, out), nil
}

// manifests are what helm rendered, in its order.
type manifests []*unstructured.Unstructured

func split(t *testing.T, out string) (all manifests) {
	t.Helper()
	for _, document := range strings.Split("\n"+out, "\n---\n") {
		object := map[string]any{}
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("not a manifest: %v\n%s", err, document)
		}
		if len(object) > 0 {
			all = append(all, &unstructured.Unstructured{Object: object})
		}
	}
	return all
}

// find is the one manifest of that kind whose name ends so, nil if there is none.
func (m manifests) find(t *testing.T, kind, suffix string) *unstructured.Unstructured {
	t.Helper()
	var found *unstructured.Unstructured
	for _, object := range m {
		if object.GetKind() == kind && strings.HasSuffix(object.GetName(), suffix) {
			if found != nil {
				t.Fatalf("two of kind %s are called …%s: %s and %s", kind, suffix, found.GetName(), object.GetName())
			}
			found = object
		}
	}
	return found
}

// get is the value at a path such as spec.template.spec.containers.0.image, nil if there is none.
func get(object any, path string) any {
	if u, ok := object.(*unstructured.Unstructured); ok {
		if u == nil {
			return nil
		}
		object = u.Object
	}
	for key := range strings.SplitSeq(path, ".") {
		switch at := object.(type) {
		case map[string]any:
			object = at[strings.ReplaceAll(key, "~", ".")] // ~ is a dot in a key
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(at) {
				return nil
			}
			object = at[i]
		default:
			return nil
		}
	}
	return object
}

// ciValues are the values files for the common cases.
func ciValues(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("values for CI: %v, %v", files, err)
	}
	return files
}

// TestReadme: helm-docs writes README.md from README.md.gotmpl and the comments in values.yaml. UPDATE=1 writes it.
func TestReadme(t *testing.T) {
	cmd := run(t, "helm-docs", "--dry-run", "--chart-search-root", ".")
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(chart, "README.md"), append(bytes.TrimSpace(want), '\n'))
}

func TestLint(t *testing.T) {
	for _, file := range ciValues(t) {
		if out, err := helm(t, "lint", "--strict", chart, "--values", file); err != nil || strings.Contains(out, "[WARNING]") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
