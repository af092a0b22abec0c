//go:build cluster

// Package cluster_test installs the chart with helm on Kubernetes' own API server and controllers, in a namespace that enforces
// the restricted pod security standard, and runs the pods that come of it. `make cluster` runs it.
package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

const (
	chart     = "../leadgrid-sync"
	namespace = "crm"
	release   = "rel"
)

// TestCluster is one story, as starting the world takes longest: install, test, upgrade, a failing upgrade, rollback, uninstall,
// while LeadGrid goes on sending webhooks, none of which may be refused.
func TestCluster(t *testing.T) {
	w := startWorld(t)
	values := func(tag, more string) string {
		return w.file(t, "values.yaml", fmt.Sprintf(`
image: {repository: leadgrid-sync, tag: %s}
secrets: {existingSecret: leadgrid-sync}
settings: {LEADGRID_LAG: 1s}
worker: {settings: {LEADGRID_BASE_URL: %q}}
networkPolicy: {enabled: true}
ingress: {enabled: true, hosts: [hooks.example.com]}
%s`, tag, w.leadgrid, more))
	}

	examples, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(examples) == 0 {
		t.Fatal("no example values", err)
	}
	for _, example := range examples { // without what operators bring
		w.helm(t, "install", release, chart, "--values", example, "--dry-run=server", "--set", "serviceMonitor.enabled=false",
			"--set", "prometheusRule.enabled=false", "--set", "httpRoute.enabled=false", "--set", "worker.keda.enabled=false")
	}

	w.helm(t, "install", release, chart, "--values", values("v1", ""), "--wait", "--timeout", "3m")
	w.helm(t, "test", release)
	if out, err := w.node.exec(t.Context(), release+"-leadgrid-sync-worker", "worker", "sync", "--wait"); err != nil {
		t.Fatalf("worker sync: %v\n%s", err, out)
	}
	installed := w.names(t)
	t.Logf("installed: %s", strings.Join(installed, " "))

	wanted := w.acked.Load() + 1 // those before the ingress knew a receiver were lost
	eventually(t, "the first webhook is taken", func() bool { return w.acked.Load() >= wanted })
	w.open.Store(true)
	taken := func(more int64) {
		t.Helper()
		wanted := w.acked.Load() + more
		eventually(t, "webhooks are taken", func() bool { return w.acked.Load() >= wanted })
	}
	taken(20)

	w.helm(t, "upgrade", release, chart, "--values", values("v1", ""), "--wait", "--timeout", "3m")
	if now := w.names(t); !slices.Equal(now, installed) {
		t.Errorf("an upgrade that changes nothing made of %v\n%v", installed, now)
	}

	w.helm(t, "upgrade", release, chart, "--values", values("v2", ""), "--wait", "--timeout", "3m")
	upgraded := w.names(t)
	for _, name := range upgraded {
		if slices.Contains(installed, name) {
			t.Errorf("%s is still there after an upgrade to another image", name)
		}
	}
	taken(20)
	w.helm(t, "test", release)

	// A typo in a setting: no new pod becomes ready, and the old ones go on.
	out, err := w.tryHelm(t, "upgrade", release, chart, "--values", values("v2", "receiver: {settings: {LEADGRID_WEBHOOK_TOLERANCE: 5minutes}}"), "--wait", "--timeout", "20s")
	if err == nil {
		t.Errorf("an upgrade to pods that do not start succeeded:\n%s", out)
	}
	if now := w.names(t); !within(ofReceiver(upgraded), now) {
		t.Errorf("a failing upgrade took receivers away: of %v there are %v", upgraded, now)
	}
	taken(20)

	w.helm(t, "rollback", release, "1", "--wait", "--timeout", "3m")
	w.helm(t, "test", release)
	taken(20)

	w.open.Store(false)
	w.helm(t, "uninstall", release, "--wait", "--timeout", "3m")
	eventually(t, "nothing is left", func() bool { return len(w.names(t)) == 0 })
	if _, err := w.node.CoreV1().Secrets(namespace).Get(t.Context(), "leadgrid-sync", meta.GetOptions{}); err != nil {
		t.Errorf("the customer's own Secret: %v", err)
	}
	t.Logf("%d webhooks were taken, and %d refused", w.acked.Load(), w.refused.Load())
}

func ofReceiver(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.Contains(name, "-receiver-") })
}

func within(some, all []string) bool {
	return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
}

// world is all that is around the chart.
type world struct {
	node     *node
	leadgrid string
	dir      string

	open           atomic.Bool // whether a webhook has to be taken
	acked, refused atomic.Int64
}

func startWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	images := w.build(t)
	c := startCluster(t)

	_, err := c.CoreV1().Namespaces().Create(t.Context(), &core.Namespace{ObjectMeta: meta.ObjectMeta{
		Name: namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.node = startNode(t, c, namespace, images)
	database := w.database(t)

	// What an ingress does: one of the receivers that were ready when it last heard, which is up to two seconds ago.
	var ready atomic.Pointer[[]string]
	go func() {
		for every := time.Tick(2 * time.Second); t.Context().Err() == nil; <-every {
			now := w.node.endpoints(t.Context(), release+"-leadgrid-sync-receiver")
			ready.Store(&now)
		}
	}()
	service := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			if ready := ready.Load(); ready != nil && len(*ready) > 0 {
				r.SetURL(&url.URL{Scheme: "http", Host: (*ready)[rand.IntN(len(*ready))]})
			}
		},
		ModifyResponse: func(response *http.Response) error {
			if response.StatusCode != http.StatusOK {
				return errors.New(response.Status)
			}
			w.acked.Add(1)
			return nil
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, err error) {
			if w.open.Load() {
				w.refused.Add(1)
				t.Errorf("a webhook was not taken: %v", err)
			}
			rw.WriteHeader(http.StatusBadGateway)
		},
	})
	t.Cleanup(service.Close)

	said := tool.Start(t, nil, filepath.Join(images, "v1", "sandbox"), "--listen", "127.0.0.1:0", "--quiet",
		"--dossiers", "50", "--contacts", "50", "--links", "50", "--notes", "50", "--live", "10",
		"--webhook-url", service.URL+"/webhooks/leadgrid", "--webhook-secret", "demo")
	eventually(t, "the stand-in listens", func() bool {
		w.leadgrid = regexp.MustCompile(`http://127\.0\.0\.1:\d+/api/v1`).FindString(said.String())
		return w.leadgrid != ""
	})

	_, err = c.CoreV1().Secrets(namespace).Create(t.Context(), &core.Secret{
		ObjectMeta: meta.ObjectMeta{Name: "leadgrid-sync"},
		StringData: map[string]string{"DATABASE_URL": database, "LEADGRID_API_KEY": "lg_live_demo", "LEADGRID_WEBHOOK_SECRET": "demo"},
	}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// build makes the image v1 and another, v2, of the same programs.
func (w *world) build(t *testing.T) (images string) {
	t.Helper()
	images = filepath.Join(w.dir, "images")
	v1, err := filepath.Abs(filepath.Join(images, "v1"))
	if err != nil {
		t.Fatal(err)
	}
	tool.Build(t, v1, "./cmd/receiver", "./cmd/worker", "./cmd/sandbox")
	if err := os.Symlink("v1", filepath.Join(images, "v2")); err != nil {
		t.Fatal(err)
	}
	return images
}

// database makes an empty one, and gives its URL.
func (w *world) database(t *testing.T) string {
	t.Helper()
	server := os.Getenv("TEST_DATABASE_URL")
	if server == "" {
		t.Fatal("TEST_DATABASE_URL names no Postgres: run make cluster")
	}
	const name = "cluster"
	conn, err := pgx.Connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		conn.Close(context.Background())
	})
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/" + name
	return address.String()
}

func (w *world) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) helm(t *testing.T, args ...string) {
	t.Helper()
	if out, err := w.tryHelm(t, args...); err != nil {
		t.Fatalf("helm %s: %v\n%s", args[0], err, out)
	}
}

func (w *world) tryHelm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(program(t, "helm"), append(args, "--namespace", namespace)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.node.kubeconfig,
		"HELM_CACHE_HOME="+w.dir, "HELM_CONFIG_HOME="+w.dir, "HELM_DATA_HOME="+w.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// names are the pods that there are and run or have run, and the Jobs.
func (w *world) names(t *testing.T) (names []string) {
	t.Helper()
	pods, err := w.node.CoreV1().Pods(namespace).List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			names = append(names, "Pod/"+pod.Name)
		}
	}
	jobs, err := w.node.BatchV1().Jobs(namespace).List(t.Context(), meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs.Items {
		if job.DeletionTimestamp == nil {
			names = append(names, "Job/"+job.Name)
		}
	}
	slices.Sort(names)
	return names
}
