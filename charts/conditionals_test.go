package charts_test

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func unmarshal(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

const pod = "spec.template.spec."

// TestValues holds single values against what they change: of the one manifest of kind whose name ends in suffix, what is
// at path. A nil want means that there is no such manifest, or nothing at the path.
func TestValues(t *testing.T) {
	for _, test := range []struct {
		values, kind, suffix, path string
		want                       any
	}{
		{"", "Deployment", "-receiver", pod + "containers.0.image", "platform/leadgrid-sync:0.1.0"},
		{"image: {registry: images.example.com/, tag: v9}", "Deployment", "-receiver", pod + "containers.0.image", "images.example.com/platform/leadgrid-sync:v9"},
		{"image: {tag: v9, digest: 'sha256:" + strings.Repeat("0", 64) + "'}", "Job", "", pod + "containers.0.image", "platform/leadgrid-sync@sha256:" + strings.Repeat("0", 64)},
		{"imagePullSecrets: [a]", "Deployment", "-worker", pod + "imagePullSecrets.0.name", "a"},
		{"nameOverride: x", "Deployment", "-worker", "metadata.name", "rel-x-worker"},
		{"fullnameOverride: x", "Deployment", "-worker", "metadata.name", "x-worker"},
		{"commonLabels: {team: a}", "Deployment", "-worker", "spec.template.metadata.labels.team", "a"},
		{"commonAnnotations: {team: a}", "Service", "-worker-admin", "metadata.annotations.team", "a"},
		{"serviceAccount: {create: false}", "ServiceAccount", "", "metadata.name", nil},
		{"serviceAccount: {create: false}", "Deployment", "-worker", pod + "serviceAccountName", "default"},
		{"serviceAccount: {name: a}", "Job", "", pod + "serviceAccountName", "a"},

		{"", "Deployment", "-receiver", "spec.replicas", 2.},
		{"receiver: {autoscaling: {enabled: true}}", "Deployment", "-receiver", "spec.replicas", nil},
		{"", "HorizontalPodAutoscaler", "", "metadata.name", nil},
		{"receiver: {autoscaling: {enabled: true, minReplicas: 3}}", "HorizontalPodAutoscaler", "-receiver", "spec.minReplicas", 3.},
		{"worker: {autoscaling: {enabled: true}}", "HorizontalPodAutoscaler", "-worker", "spec.scaleTargetRef.name", "rel-leadgrid-sync-worker"},
		{"worker: {keda: {enabled: true, prometheusAddress: 'http://p'}}", "Deployment", "-worker", "spec.replicas", nil},
		{"worker: {keda: {enabled: true, prometheusAddress: 'http://p'}}", "ScaledObject", "-worker", "spec.triggers.0.metadata.threshold", "30"},
		{"worker: {keda: {enabled: true, prometheusAddress: 'http://p'}}", "PodDisruptionBudget", "-worker", "metadata.name", nil},
		{"", "PodDisruptionBudget", "-receiver", "spec.maxUnavailable", 1.},
		{"receiver: {replicas: 1}", "PodDisruptionBudget", "-receiver", "metadata.name", nil},
		{"receiver: {replicas: 1}", "PodDisruptionBudget", "-worker", "spec.maxUnavailable", 1.},
		{"receiver: {replicas: 1, autoscaling: {enabled: true, minReplicas: 2}}", "PodDisruptionBudget", "-receiver", "spec.maxUnavailable", 1.},
		{"worker: {podDisruptionBudget: {enabled: false}}", "PodDisruptionBudget", "-worker", "metadata.name", nil},

		{"", "Deployment", "-receiver", pod + "containers.0.lifecycle.preStop.sleep.seconds", 5.},
		{"receiver: {preStopSeconds: 0}", "Deployment", "-receiver", pod + "containers.0.lifecycle", nil},
		{"", "Deployment", "-worker", pod + "terminationGracePeriodSeconds", 45.},
		{"", "Deployment", "-worker", pod + "containers.0.livenessProbe.httpGet.path", "/healthz"},
		{"", "Deployment", "-worker", pod + "containers.0.readinessProbe.httpGet.path", "/readyz"},
		{"", "Deployment", "-worker", pod + "topologySpreadConstraints.1.labelSelector.matchLabels.app~kubernetes~io/component", "worker"},
		{"worker: {topologySpreadConstraints: []}", "Deployment", "-worker", pod + "topologySpreadConstraints", nil},
		{"worker: {topologySpreadConstraints: [{maxSkew: 2, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: b}}}]}",
			"Deployment", "-worker", pod + "topologySpreadConstraints.0.labelSelector", map[string]any{"matchLabels": map[string]any{"a": "b"}}},
		{"receiver: {deploymentAnnotations: {a: b}}", "Deployment", "-receiver", "metadata.annotations.a", "b"},
		{"receiver: {podAnnotations: {a: b}}", "Deployment", "-receiver", "spec.template.metadata.annotations.a", "b"},
		{"receiver: {podLabels: {a: b}}", "Deployment", "-receiver", "spec.template.metadata.labels.a", "b"},
		{"receiver: {extraEnvFrom: [{configMapRef: {name: a}}]}", "Deployment", "-receiver", pod + "containers.0.envFrom.0.configMapRef.name", "a"},
		{"receiver: {nodeSelector: {a: b}}", "Deployment", "-receiver", pod + "nodeSelector.a", "b"},
		{"receiver: {tolerations: [{key: a}]}", "Deployment", "-receiver", pod + "tolerations.0.key", "a"},
		{"receiver: {affinity: {nodeAffinity: {}}}", "Deployment", "-receiver", pod + "affinity.nodeAffinity", map[string]any{}},
		{"worker: {priorityClassName: a, runtimeClassName: b}", "Deployment", "-worker", pod + "runtimeClassName", "b"},
		{"receiver: {strategy: {type: Recreate, rollingUpdate: null}}", "Deployment", "-receiver", "spec.strategy", map[string]any{"type": "Recreate"}},

		{"", "Deployment", "-worker", pod + "initContainers", nil},
		{"initContainers: [{name: proxy, image: p}]", "Deployment", "-receiver", pod + "initContainers.0.name", "proxy"},
		{"initContainers: [{name: proxy, image: p}]", "Job", "", pod + "initContainers.0.name", "proxy"},
		{"initContainers: [{name: proxy, image: p}]", "Pod", "-test", "spec.initContainers.0.name", "proxy"},
		{"migration: {enabled: false}", "Job", "", "metadata.name", nil},
		{"migration: {readRoles: [a, b], writebackRoles: [c], writebackDeleteRoles: [d]}", "Job", "", pod + "containers.0.args",
			[]any{"migrate", "--read-role=a", "--read-role=b", "--writeback-role=c", "--writeback-delete-role=d"}},
		{"migration: {jobAnnotations: {a: b}}", "Job", "", "metadata.annotations.a", "b"},

		{"", "Secret", "", "metadata.name", nil},
		{"secrets: {apiKey: {value: k}}", "Secret", "", "stringData", map[string]any{"apiKey": "k"}},
		{"mappings: {config: 'a: b'}", "ConfigMap", "-mappings", "data.mappings~yaml", "a: b"},
		{"mappings: {existingConfigMap: theirs, key: k}", "ConfigMap", "-mappings", "metadata.name", nil},
		{"mappings: {existingConfigMap: theirs, key: k}", "Deployment", "-worker", pod + "volumes.1.configMap.items.0.key", "k"},
		{"mappings: {existingConfigMap: theirs, key: k}", "Deployment", "-receiver", pod + "volumes.1", nil},

		{"", "Ingress", "", "metadata.name", nil},
		{"ingress: {enabled: true, hosts: [a.example.com], className: nginx}", "Ingress", "-receiver", "spec.rules.0.http.paths.0.path", "/webhooks/leadgrid"},
		{"ingress: {enabled: true, hosts: [a.example.com], className: nginx}", "Ingress", "-receiver", "spec.ingressClassName", "nginx"},
		{"", "HTTPRoute", "", "metadata.name", nil},
		{"httpRoute: {enabled: true, parentRefs: [{name: g}]}", "HTTPRoute", "-receiver", "spec.rules.0.backendRefs.0", map[string]any{"name": "rel-leadgrid-sync-receiver", "port": 80.}},
		{"httpRoute: {enabled: true, parentRefs: [{name: g}], filters: [{type: RequestMirror}]}", "HTTPRoute", "-receiver", "spec.rules.0.filters.0.type", "RequestMirror"},
		{"receiver: {service: {type: LoadBalancer, loadBalancerClass: a}}", "Service", "-receiver", "spec.loadBalancerClass", "a"},
		{"receiver: {service: {type: LoadBalancer}}", "Service", "-receiver-admin", "spec.type", "ClusterIP"},

		{"", "NetworkPolicy", "", "metadata.name", nil},
		{"networkPolicy: {enabled: true}", "NetworkPolicy", "-migrate", "spec.ingress", nil},
		{"networkPolicy: {enabled: true}", "NetworkPolicy", "-receiver", "spec.ingress.0.from", nil},
		{"networkPolicy: {enabled: true}", "NetworkPolicy", "-receiver", "spec.egress.2", nil},
		{"networkPolicy: {enabled: true}", "NetworkPolicy", "-worker", "spec.egress.2.ports.0.port", 443.},
		{"networkPolicy: {enabled: true, extraEgress: [{ports: [{port: 1}]}]}", "NetworkPolicy", "-receiver", "spec.egress.2.ports.0.port", 1.},

		{"", "ServiceMonitor", "", "metadata.name", nil},
		{"serviceMonitor: {enabled: true, labels: {a: b}}", "ServiceMonitor", "-worker", "metadata.labels.a", "b"},
		{"serviceMonitor: {enabled: true, extraSpec: {sampleLimit: 9}}", "ServiceMonitor", "-worker", "spec.scrapeClassicHistograms", true},
		{"serviceMonitor: {enabled: true}", "ServiceMonitor", "-worker", "spec.endpoints.0.relabelings.0.replacement", "rel-leadgrid-sync-worker"},
		{"", "PrometheusRule", "", "metadata.name", nil},
		{"prometheusRule: {enabled: true, alertLabels: {team: a}}", "PrometheusRule", "", "spec.groups.0.rules.0.labels.team", "a"},
		{"", "ConfigMap", "-dashboards", "metadata.name", nil},
		{"dashboards: {enabled: true}", "ConfigMap", "-dashboards", "metadata.labels.grafana_dashboard", "1"},
		{"tests: {enabled: false}", "Pod", "-test", "metadata.name", nil},
		{"", "Pod", "-test", "spec.containers.1.args.1", "http://rel-leadgrid-sync-receiver-admin:9090/readyz"},
		{"extraObjects: ['{apiVersion: v1, kind: Secret, metadata: {name: {{ .Release.Name }}-more}}']", "Secret", "-more", "metadata.name", "rel-more"},
	} {
		t.Run(fmt.Sprintf("%s %s%s %s", test.values, test.kind, test.suffix, test.path), func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, get(render(t, test.values).find(t, test.kind, test.suffix), test.path)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// env is the environment of a pod's first container.
func env(t *testing.T, rendered manifests, kind, suffix string) map[string]string {
	t.Helper()
	_, spec := podOf(t, rendered.find(t, kind, suffix))
	vars := map[string]string{}
	for _, v := range spec.Containers[0].Env {
		if _, twice := vars[v.Name]; twice {
			t.Errorf("%s is set twice", v.Name)
		}
		vars[v.Name] = v.Value
	}
	return vars
}

// TestSecretsAreOnlyWhereTheyAreNeeded looks at the files each program sees, and that a setting names each.
func TestSecretsAreOnlyWhereTheyAreNeeded(t *testing.T) {
	rendered := render(t, `
secrets:
  adminPassword: {existingSecret: a, key: pw}
  hashKey: {existingSecret: a, key: hash}
  migrationDatabaseUrl: {existingSecret: owner, key: uri}
  webhookSecret: {value: w}
`)
	for _, test := range []struct {
		kind, suffix string
		want         map[string]string // path of the file → secret/key
	}{
		{"Deployment", "-receiver", map[string]string{"DATABASE_URL": "mine/DATABASE_URL", "LEADGRID_WEBHOOK_SECRET": "rel-leadgrid-sync/webhookSecret"}},
		{"Deployment", "-worker", map[string]string{
			"DATABASE_URL": "mine/DATABASE_URL", "LEADGRID_API_KEY": "mine/LEADGRID_API_KEY", "ADMIN_PASSWORD": "a/pw", "LEADGRID_HASH_KEY": "a/hash",
		}},
		{"Job", "", map[string]string{"DATABASE_URL": "owner/uri", "LEADGRID_HASH_KEY": "a/hash"}},
		{"Pod", "-test", map[string]string{"DATABASE_URL": "mine/DATABASE_URL"}},
	} {
		_, spec := podOf(t, rendered.find(t, test.kind, test.suffix))
		vars := env(t, rendered, test.kind, test.suffix)
		got := map[string]string{}
		for _, source := range spec.Volumes[0].Projected.Sources {
			for _, item := range source.Secret.Items {
				got[item.Path] = source.Secret.Name + "/" + item.Key
				if want := "/etc/leadgrid-sync/secrets/" + item.Path; vars[item.Path+"_FILE"] != want {
					t.Errorf("%s%s: %s_FILE = %q, want %q", test.kind, test.suffix, item.Path, vars[item.Path+"_FILE"], want)
				}
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s%s (-want +got)\n%s", test.kind, test.suffix, diff)
		}
		for _, mount := range spec.Containers[0].VolumeMounts {
			if mount.SubPath != "" {
				t.Errorf("%s%s: a file mounted by subPath is never updated", test.kind, test.suffix)
			}
		}
	}
}

func TestSettingsOfOneProgramWin(t *testing.T) {
	rendered := render(t, `
settings: {LOG_LEVEL: warn, SWEEP_INTERVAL: 2h, DATABASE_MAX_CONNS: 20, WRITEBACK_PAUSED: true}
worker: {settings: {LOG_LEVEL: debug}}
database: {tls: {mode: verify-full, existingSecret: pg, certKey: tls.crt, keyKey: tls.key}}
`)
	common := map[string]string{
		"SWEEP_INTERVAL": "2h", "DATABASE_MAX_CONNS": "20", "WRITEBACK_PAUSED": "true", "DATABASE_URL_FILE": "/etc/leadgrid-sync/secrets/DATABASE_URL",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/etc/leadgrid-sync/database/ca.crt",
		"PGSSLCERT": "/etc/leadgrid-sync/database/tls.crt", "PGSSLKEY": "/etc/leadgrid-sync/database/tls.key",
	}
	for suffix, own := range map[string]map[string]string{
		"-receiver": {"LOG_LEVEL": "warn", "LISTEN_ADDR": ":8080", "ADMIN_ADDR": ":9090", "LEADGRID_WEBHOOK_SECRET_FILE": "/etc/leadgrid-sync/secrets/LEADGRID_WEBHOOK_SECRET"},
		"-worker":   {"LOG_LEVEL": "debug", "ADMIN_ADDR": ":9091", "LEADGRID_API_KEY_FILE": "/etc/leadgrid-sync/secrets/LEADGRID_API_KEY"},
	} {
		want := maps.Clone(common)
		maps.Copy(want, own)
		if diff := cmp.Diff(want, env(t, rendered, "Deployment", suffix)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", suffix, diff)
		}
	}
}

// TestMigrationRunsAgainOnlyWhenItChanges: a Job cannot be changed, so what it runs is in its name.
func TestMigrationRunsAgainOnlyWhenItChanges(t *testing.T) {
	name := func(values string) string { return render(t, values).find(t, "Job", "").GetName() }
	first := name("")
	for _, same := range []string{"receiver: {replicas: 9}", "worker: {settings: {LOG_LEVEL: debug}}", "dashboards: {enabled: true}", "ingress: {enabled: true, hosts: [a]}"} {
		if got := name(same); got != first {
			t.Errorf("%s: the Job is called %s, not %s as before", same, got, first)
		}
	}
	names := []string{first}
	for _, other := range []string{
		"image: {tag: v2}", "migration: {readRoles: [a]}", "settings: {LEADGRID_SCHEMA: crm}", "mappings: {config: 'a: b'}", "mappings: {config: 'a: c'}",
		"migration: {backoffLimit: 3}", "migration: {podAnnotations: {again: '1'}}",
	} {
		got := name(other)
		if slices.Contains(names, got) {
			t.Errorf("%s: the Job is called %s, as one that runs something else", other, got)
		}
		names = append(names, got)
	}
}

// TestPackageIsWhole: .helmignore must drop what is for us alone, and templates/tests must stay.
func TestPackageIsWhole(t *testing.T) {
	dir := t.TempDir()
	if _, err := helm(t, "package", chart, "--destination", dir); err != nil {
		t.Fatal(err)
	}
	listing, err := exec.Command("tar", "tzf", dir+"/leadgrid-sync-0.1.0.tgz").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(listing))
	for _, want := range []string{"values.schema.json", "README.md", "templates/tests/status.yaml", "templates/NOTES.txt", "dashboards/mirror.json"} {
		if !slices.Contains(files, chart+"/"+want) {
			t.Errorf("the package lacks %s", want)
		}
	}
	for _, file := range files {
		if strings.Contains(file, "/ci/") || strings.HasSuffix(file, ".gotmpl") {
			t.Errorf("the package holds %s", file)
		}
	}
}

// TestLongNamesFit: every name stays within what Kubernetes allows, and releases stay apart.
func TestLongNamesFit(t *testing.T) {
	out, err := helm(t, "template", strings.Repeat("r", 53), chart, "--set", "image.repository=a,secrets.existingSecret=b,mappings.config=c,dashboards.enabled=true")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range split(t, out) {
		if len(object.GetName()) > 63 {
			t.Errorf("%s/%s has %d letters", object.GetKind(), object.GetName(), len(object.GetName()))
		}
		for key, value := range object.GetLabels() {
			if len(value) > 63 {
				t.Errorf("%s/%s: label %s has %d letters", object.GetKind(), object.GetName(), key, len(value))
			}
		}
	}
}
