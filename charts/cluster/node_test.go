//go:build cluster

package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/leadgrid-sync/leadgrid-sync/charts/internal/tool"
)

// node takes the place of scheduler, kubelet, container runtime, network and DNS: it runs the containers of all pods of one
// namespace as processes. A pod has an address of its own, an image is a folder of programs called after its tag, and a
// mounted file lies wherever the pod's environment says after the node has rewritten it. What a kernel would confine is
// not confined here; that the pods ask for it is checked by the API server's admission.
type node struct {
	*cluster
	namespace string
	images    string // folder of the images
	tmp       string

	mu   sync.Mutex
	pods map[string]*pod // by UID
	next int
	all  sync.WaitGroup
}

// pod is one that the node runs.
type pod struct {
	name string
	ip   string
	life context.Context // until it is deleted
	stop func()

	// Of the container that was started last.
	binary string
	env    []string
}

func startNode(t *testing.T, c *cluster, namespace, images string) *node {
	t.Helper()
	n := &node{cluster: c, namespace: namespace, images: images, tmp: t.TempDir(), pods: map[string]*pod{}}
	_, err := c.CoreV1().Nodes().Create(t.Context(), &core.Node{
		ObjectMeta: meta.ObjectMeta{Name: "node", Labels: map[string]string{core.LabelHostname: "node"}},
	}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.all.Go(func() {
		for every := time.Tick(100 * time.Millisecond); ctx.Err() == nil; <-every {
			n.look(ctx)
		}
	})
	t.Cleanup(func() { stop(); n.all.Wait() })
	return n
}

// look starts what has been asked for, and stops what has been deleted.
func (n *node) look(ctx context.Context) {
	list, err := n.CoreV1().Pods(n.namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		return // asked again in a moment
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, wanted := range list.Items {
		running := n.pods[string(wanted.UID)]
		switch {
		case running != nil && wanted.DeletionTimestamp != nil:
			running.stop()
		case running == nil && wanted.DeletionTimestamp != nil:
			_ = n.CoreV1().Pods(n.namespace).Delete(ctx, wanted.Name, *meta.NewDeleteOptions(0))
		case running == nil:
			n.next++
			life, stop := context.WithCancel(ctx)
			p := &pod{name: wanted.Name, ip: fmt.Sprintf("10.1.%d.%d", n.next/200, n.next%200+1), life: life, stop: stop}
			n.pods[string(wanted.UID)] = p
			n.all.Go(func() { n.run(ctx, p, &wanted) })
		}
	}
}

// run is the life of a pod.
func (n *node) run(ctx context.Context, p *pod, spec *core.Pod) {
	life := p.life
	pods := n.CoreV1().Pods(n.namespace)
	_ = pods.Bind(ctx, &core.Binding{ObjectMeta: meta.ObjectMeta{Name: spec.Name}, Target: core.ObjectReference{Kind: "Node", Name: "node"}}, meta.CreateOptions{})
	files, err := n.mount(life, spec)
	if err != nil {
		return // deleted before its secrets were there
	}
	status := core.PodStatus{Phase: core.PodRunning, PodIP: p.ip, PodIPs: []core.PodIP{{IP: p.ip}}, StartTime: &meta.Time{Time: time.Now()}}
	report := func(ready bool) {
		state := core.ConditionFalse
		if ready {
			state = core.ConditionTrue
		}
		status.Conditions = []core.PodCondition{
			{Type: core.PodScheduled, Status: core.ConditionTrue}, {Type: core.PodReady, Status: state, LastTransitionTime: meta.Now()},
			{Type: core.ContainersReady, Status: state, LastTransitionTime: meta.Now()}, {Type: core.PodInitialized, Status: core.ConditionTrue},
		}
		for i := range status.ContainerStatuses {
			status.ContainerStatuses[i].Ready = ready
		}
		for ctx.Err() == nil {
			now, err := pods.Get(ctx, spec.Name, meta.GetOptions{})
			if err != nil || now.UID != spec.UID {
				return
			}
			now.Status = status
			if _, err := pods.UpdateStatus(ctx, now, meta.UpdateOptions{}); err == nil {
				return
			}
		}
	}
	failed := false
	for _, container := range spec.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, core.ContainerStatus{Name: container.Name, Image: container.Image})
	}
	for i, container := range spec.Spec.Containers {
		for again := true; again && life.Err() == nil; {
			code, said := n.container(ctx, p, &container, files, report)
			failed = code != 0
			status.ContainerStatuses[i].RestartCount++
			status.ContainerStatuses[i].State.Terminated = &core.ContainerStateTerminated{ExitCode: int32(code), Message: said}
			again = spec.Spec.RestartPolicy == core.RestartPolicyAlways || spec.Spec.RestartPolicy == core.RestartPolicyOnFailure && failed
			if again && life.Err() == nil {
				report(false)
				select {
				case <-time.After(time.Second): // a kubelet waits longer each time
				case <-life.Done():
				}
			}
		}
		if failed {
			break
		}
	}
	status.Phase = core.PodSucceeded
	if failed {
		status.Phase = core.PodFailed
	}
	report(false)
	<-life.Done() // a finished pod stays until it is deleted
	_ = pods.Delete(ctx, spec.Name, *meta.NewDeleteOptions(0))
}

// container runs one until it ends by itself or the pod's life does, and gives its exit code and its last words.
func (n *node) container(ctx context.Context, p *pod, spec *core.Container, files map[string]string, report func(ready bool)) (int, string) {
	here := func(text string) string {
		for path, dir := range files {
			text = strings.ReplaceAll(text, path, dir)
		}
		return n.resolve(ctx, text)
	}
	_, tag, _ := strings.Cut(spec.Image, ":")
	binary, env := filepath.Join(n.images, tag, spec.Command[0]), []string{}
	for _, variable := range spec.Env {
		value := here(variable.Value)
		if strings.HasPrefix(value, ":") {
			value = local(p.ip) + value // it would be alone in its network
		}
		env = append(env, variable.Name+"="+value)
	}
	n.mu.Lock()
	p.binary, p.env = binary, env
	n.mu.Unlock()
	args := make([]string, len(spec.Args))
	for i, arg := range spec.Args {
		args[i] = here(arg)
	}
	said := &tool.Output{}
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = env, said, said, n.tmp
	if err := cmd.Start(); err != nil {
		return 128, err.Error()
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()

	ports := map[string]int32{}
	for _, port := range spec.Ports {
		ports[port.Name] = port.ContainerPort
	}
	ready := spec.ReadinessProbe == nil
	report(ready)
	for probes := time.Tick(200 * time.Millisecond); ; {
		select {
		case <-ended:
			return cmd.ProcessState.ExitCode(), said.Last(2000)
		case <-p.life.Done():
			if spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && ctx.Err() == nil {
				select {
				case <-time.After(time.Duration(spec.Lifecycle.PreStop.Sleep.Seconds) * time.Second):
				case <-ctx.Done():
				}
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(time.Minute):
				_ = cmd.Process.Kill()
				<-ended
			}
			return cmd.ProcessState.ExitCode(), ""
		case <-probes:
			if probe := spec.ReadinessProbe; probe != nil {
				url := fmt.Sprintf("http://%s:%d%s", local(p.ip), ports[probe.HTTPGet.Port.StrVal], probe.HTTPGet.Path)
				if now := answers(url); now != ready {
					ready = now
					report(ready)
				}
			}
		}
	}
}

func answers(url string) bool {
	client := http.Client{Timeout: 4 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// mount writes the pod's files, once all are there, and says where what was to be mounted is.
func (n *node) mount(life context.Context, spec *core.Pod) (map[string]string, error) {
	dirs, files := map[string]string{}, map[string]string{}
	for _, volume := range spec.Spec.Volumes {
		content := map[string][]byte{}
		for every := time.Tick(100 * time.Millisecond); ; <-every {
			err := n.content(life, &volume, content)
			if err == nil {
				break
			}
			if life.Err() != nil {
				return nil, err
			}
		}
		dir := filepath.Join(n.tmp, spec.Name, volume.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		for name, data := range content {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return nil, err
			}
		}
		dirs[volume.Name] = dir
	}
	for _, container := range spec.Spec.Containers {
		for _, mount := range container.VolumeMounts {
			files[mount.MountPath] = dirs[mount.Name]
		}
	}
	return files, nil
}

// content collects a volume's files.
func (n *node) content(ctx context.Context, volume *core.Volume, content map[string][]byte) error {
	secret := func(name string, items []core.KeyToPath) error {
		found, err := n.CoreV1().Secrets(n.namespace).Get(ctx, name, meta.GetOptions{})
		if err != nil {
			return err
		}
		if items == nil {
			maps.Copy(content, found.Data)
		}
		for _, item := range items {
			data, ok := found.Data[item.Key]
			if !ok {
				return fmt.Errorf("no key %s in %s", item.Key, name)
			}
			content[item.Path] = data
		}
		return nil
	}
	switch {
	case volume.Secret != nil:
		return secret(volume.Secret.SecretName, volume.Secret.Items)
	case volume.Projected != nil:
		for _, source := range volume.Projected.Sources {
			if err := secret(source.Secret.Name, source.Secret.Items); err != nil {
				return err
			}
		}
		return nil
	case volume.ConfigMap != nil:
		found, err := n.CoreV1().ConfigMaps(n.namespace).Get(ctx, volume.ConfigMap.Name, meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, item := range volume.ConfigMap.Items {
			content[item.Path] = []byte(found.Data[item.Key])
		}
		return nil
	}
	return fmt.Errorf("volume %s is of a kind that this node does not know", volume.Name)
}

var hosts = regexp.MustCompile(`http://([a-z0-9-]+):(\d+)`)

// resolve puts addresses of pods in the place of Services' names.
func (n *node) resolve(ctx context.Context, text string) string {
	return hosts.ReplaceAllStringFunc(text, func(url string) string {
		name := hosts.FindStringSubmatch(url)[1]
		if found := n.endpoints(ctx, name); len(found) > 0 {
			return "http://" + found[0]
		}
		return url
	})
}

// local is where a pod's address really is. Kubernetes takes no loopback address for a pod's.
func local(ip string) string { return "127." + strings.TrimPrefix(ip, "10.") }

// endpoints are the addresses behind a Service that take requests now.
func (n *node) endpoints(ctx context.Context, service string) (addresses []string) {
	slices, err := n.DiscoveryV1().EndpointSlices(n.namespace).List(ctx, meta.ListOptions{LabelSelector: discovery.LabelServiceName + "=" + service})
	if err != nil {
		return nil
	}
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready && len(slice.Ports) > 0 {
				addresses = append(addresses, fmt.Sprintf("%s:%d", local(endpoint.Addresses[0]), *slice.Ports[0].Port))
			}
		}
	}
	return addresses
}

// exec is kubectl exec, in any pod whose name begins so.
func (n *node) exec(ctx context.Context, prefix string, args ...string) ([]byte, error) {
	n.mu.Lock()
	var cmd *exec.Cmd
	for _, p := range n.pods {
		if strings.HasPrefix(p.name, prefix) && p.life.Err() == nil && p.binary != "" {
			cmd = exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.binary), args[0]), args[1:]...)
			cmd.Env = p.env
		}
	}
	n.mu.Unlock()
	if cmd == nil {
		return nil, fmt.Errorf("no pod is called %s…", prefix)
	}
	return cmd.CombinedOutput()
}
