package charts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	admission "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// scaledObject is as much of KEDA's type as the chart uses: its own module would bring half of Kubernetes along.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			APIVersion, Kind, Name string
		}
		MinReplicaCount, MaxReplicaCount, PollingInterval, CooldownPeriod int32
		Triggers                                                          []struct {
			Type, MetricType  string
			Metadata          map[string]string
			AuthenticationRef struct{ Name, Kind string }
		}
	}
}

// decode reads a manifest as the API server would, but refuses fields that it does not know.
func decode(t *testing.T, object *unstructured.Unstructured) (any, error) {
	t.Helper()
	text, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	if object.GetKind() == "ScaledObject" {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		into := &scaledObject{}
		return into, decoder.Decode(into)
	}
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, gatewayv1.Install, monitoringv1.AddToScheme} {
		if err := add(types); err != nil {
			t.Fatal(err)
		}
	}
	serializer := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, types, types, kjson.SerializerOptions{Strict: true})
	decoded, _, err := serializer.Decode(text, nil, nil)
	return decoded, err
}

func TestManifestsAreStrictlyRight(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range ciValues(t) {
		out, err := helm(t, "template", "rel", chart, "--namespace", "crm", "--values", file)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, object := range split(t, out) {
			id := object.GetKind() + "/" + object.GetName()
			seen[object.GetKind()] = true
			if names[id] {
				t.Errorf("%s: two manifests are %s", file, id)
			}
			names[id] = true
			if _, err := decode(t, object); err != nil {
				t.Errorf("%s: %s: %v", file, id, err)
			}
			if len(object.GetName()) > 57 {
				t.Errorf("%s: %s: the name leaves no room for a pod's suffix", file, id)
			}
			if object.GetName() != "rel-extra" && (object.GetNamespace() != "crm" || object.GetLabels()["app.kubernetes.io/instance"] != "rel") {
				t.Errorf("%s: %s has namespace %q and labels %v", file, id, object.GetNamespace(), object.GetLabels())
			}
		}
	}
	for _, kind := range []string{
		"ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "Job", "NetworkPolicy", "Pod", "PodDisruptionBudget",
		"PrometheusRule", "ScaledObject", "Secret", "Service", "ServiceAccount", "ServiceMonitor",
	} {
		if !seen[kind] {
			t.Errorf("no values file for CI makes a %s", kind)
		}
	}
}

func TestStrictDecodingSeesTypos(t *testing.T) {
	deployment := render(t, "").find(t, "Deployment", "-worker")
	if err := unstructured.SetNestedField(deployment.Object, true, "spec", "template", "spec", "enableServicesLinks"); err != nil {
		t.Fatal(err)
	}
	if _, err := decode(t, deployment); err == nil || !strings.Contains(err.Error(), "enableServicesLinks") {
		t.Errorf("decode = %v", err)
	}
}

// podOf is the pod that a manifest makes, nil if none.
func podOf(t *testing.T, object *unstructured.Unstructured) (*metav1.ObjectMeta, *corev1.PodSpec) {
	t.Helper()
	template := get(object, "spec.template")
	if object.GetKind() == "Pod" {
		template = object.Object
	} else if template == nil {
		return nil, nil
	}
	text, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.PodTemplateSpec
	if err := json.Unmarshal(text, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod.ObjectMeta, &pod.Spec
}

func TestPodsSatisfyTheRestrictedStandard(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := admission.LevelVersion{Level: admission.LevelRestricted, Version: admission.LatestVersion()}
	pods := 0
	for _, file := range ciValues(t) {
		out, err := helm(t, "template", "rel", chart, "--namespace", "crm", "--values", file)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range split(t, out) {
			meta, spec := podOf(t, object)
			if spec == nil {
				continue
			}
			pods++
			for _, result := range evaluator.EvaluatePod(restricted, meta, spec) {
				if !result.Allowed {
					t.Errorf("%s: %s: %s: %s", file, object.GetName(), result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
				t.Errorf("%s: %s mounts a token", file, object.GetName())
			}
			if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
				t.Errorf("%s: %s has service links", file, object.GetName())
			}
			if *spec.SecurityContext.RunAsUser != 65532 {
				t.Errorf("%s: %s runs as %d", file, object.GetName(), *spec.SecurityContext.RunAsUser)
			}
			for _, container := range spec.Containers {
				if !*container.SecurityContext.ReadOnlyRootFilesystem {
					t.Errorf("%s: %s/%s can write to its root", file, object.GetName(), container.Name)
				}
				if container.Resources.Requests.Cpu().IsZero() || container.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: %s/%s asks for no CPU, or has no limit of memory", file, object.GetName(), container.Name)
				}
			}
		}
	}
	if pods < 16 {
		t.Errorf("%d pods were checked, want the four of each values file", pods)
	}
}

func TestSchemaRefusesTypos(t *testing.T) {
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	unmarshal(t, text, &values)
	// What is open on purpose: Kubernetes' own types, and labels, annotations and settings, of which nobody knows the names.
	open := []string{
		"affinity", "annotations", "Annotations", "labels", "Labels", "commonAnnotations", "commonLabels", "settings", "podSecurityContext",
		"securityContext", "limits", "requests", "behavior", "rollingUpdate", "nodeSelector", "extraSpec",
	}
	var paths []string
	var walk func(path string, value any)
	walk = func(path string, value any) {
		object, ok := value.(map[string]any)
		last := path[strings.LastIndex(path, ".")+1:]
		if !ok || slices.ContainsFunc(open, func(suffix string) bool { return strings.HasSuffix(last, suffix) }) {
			return
		}
		paths = append(paths, path)
		for key, value := range object {
			walk(strings.TrimPrefix(path+"."+key, "."), value)
		}
	}
	walk("", values)
	if len(paths) < 40 {
		t.Fatalf("only %d closed objects among the values: %v", len(paths), paths)
	}
	for _, path := range paths {
		_, err := tryRender(t, "", "--set", strings.TrimPrefix(path+".tpyo=1", "."))
		if err == nil || !strings.Contains(err.Error(), "tpyo") {
			t.Errorf("%s.tpyo: %v, want it refused", path, err)
		}
	}
	for _, wrong := range []string{
		"image.pullPolicy=Sometimes", "image.digest=sha256:12", "receiver.replicas=two", "settings.log_level=debug",
		"prometheusRule.alerts.LeadgridWebhookErrors.ratio=5", "prometheusRule.alerts.LeadgridQueueLag.for=soon", "receiver.service.type=ExternalName",
	} {
		if _, err := tryRender(t, "", "--set", wrong); err == nil || !strings.Contains(err.Error(), "values don't meet") {
			t.Errorf("%s: %v, want it refused by the schema", wrong, err)
		}
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	_, err := helm(t, "template", "rel", chart, "--set", strings.Join([]string{
		"worker.autoscaling.enabled=true", "worker.keda.enabled=true", "ingress.enabled=true", "httpRoute.enabled=true",
		"receiver.terminationGracePeriodSeconds=30", "settings.LISTEN_ADDR=:1", "worker.settings.DATABASE_URL_FILE=/x",
		"mappings.config=a", "mappings.existingConfigMap=b", "secrets.hashKey.value=a", "secrets.hashKey.existingSecret=b",
	}, ","))
	if err == nil {
		t.Fatal("the values were accepted")
	}
	for _, want := range []string{
		"image.repository is not set", "DATABASE_URL has no source", "LEADGRID_API_KEY has no source", "LEADGRID_WEBHOOK_SECRET has no source",
		"both enabled", "worker.keda.prometheusAddress", "ingress.hosts is empty", "httpRoute.parentRefs is empty",
		"receiver.terminationGracePeriodSeconds must be above 30", "LISTEN_ADDR cannot be under settings",
		"DATABASE_URL cannot be under worker.settings", "mappings has both", "secrets.hashKey has both",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if strings.Contains(err.Error(), "worker.terminationGracePeriodSeconds") {
		t.Error("the error complains about a right value")
	}
	t.Log(fmt.Sprint(err))
}
