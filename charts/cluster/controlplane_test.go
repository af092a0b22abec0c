//go:build cluster

package cluster_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

// eventually waits until what is so.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tool.Eventually(t, condition, func() string { return what })
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := tool.Path(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freePort is one that nobody listens on now, and most likely not in a moment either.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// cluster is Kubernetes without nodes: its API, and the controllers that make pods out of Deployments and Jobs.
type cluster struct {
	kubernetes.Interface
	kubeconfig string
}

// startCluster runs etcd, the API server and the controllers as they come, each on loopback.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}

	etcd := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	peers := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	tool.Start(t, nil, program(t, "etcd"), "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	accounts := write("accounts.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	port := freePort(t)
	tool.Start(t, nil, program(t, "kube-apiserver"), "--etcd-servers", etcd,
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(port), "--cert-dir", dir, "--endpoint-reconciler-type", "none",
		"--service-cluster-ip-range", "10.0.0.0/24", "--authorization-mode", "RBAC",
		"--token-auth-file", write("tokens.csv", []byte("admin,admin,admin,system:masters\n")),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", accounts, "--service-account-signing-key-file", accounts)

	kubeconfig := write("kubeconfig", fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:%d", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: admin}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`, port))
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1 // no limit: the node asks often
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server is ready", func() bool {
		return client.RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error() == nil
	})
	// Nobody reports here whether a node is well.
	tool.Start(t, nil, program(t, "kube-controller-manager"), "--kubeconfig", kubeconfig, "--leader-elect=false",
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(freePort(t)), "--cert-dir", dir,
		"--service-account-private-key-file", accounts, "--use-service-account-credentials=false",
		"--controllers", "*,-node-lifecycle-controller,-taint-eviction-controller,-node-ipam-controller")
	return &cluster{Interface: client, kubeconfig: kubeconfig}
}
