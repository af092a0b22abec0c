package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// TestCompose loads compose.yaml as docker compose does, against the schema of the compose specification.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithWorkingDirectory(".."), cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "sandbox", "migrate", "receiver", "worker", "prometheus", "grafana"} {
		service, ok := project.Services[name]
		if !ok {
			t.Errorf("no service %s", name)
			continue
		}
		for _, volume := range service.Volumes {
			if volume.Type == types.VolumeTypeBind {
				if _, err := os.Stat(volume.Source); err != nil {
					t.Errorf("%s mounts what is not there: %v", name, err)
				}
			}
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s to the network, not to this machine alone", name, port.Published)
			}
		}
		for dependency := range service.DependsOn {
			if _, ok := project.Services[dependency]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, dependency)
			}
		}
		if service.Build != nil {
			if service.User != "" || !service.ReadOnly || len(service.CapDrop) == 0 {
				t.Errorf("%s is not locked down as in the chart", name)
			}
		}
	}
}

func TestComposePrometheus(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yaml", "alerts.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "compose", name))
		if err != nil {
			t.Fatal(err)
		}
		// promtool looks for the files where the container has them.
		text = []byte(strings.ReplaceAll(string(text), "/etc/prometheus/", dir+"/"))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, dir, "check", "config", "--lint=all", "prometheus.yaml")
	text, err := os.ReadFile(filepath.Join(dir, "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		ScrapeConfigs []struct {
			JobName string `json:"job_name"`
		} `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	jobs := map[string]bool{}
	for _, scrape := range config.ScrapeConfigs {
		jobs[scrape.JobName] = true
	}
	if !jobs["leadgrid-sync-receiver"] || !jobs["leadgrid-sync-worker"] {
		t.Errorf("the jobs %v are not those that the alerts ask for", jobs)
	}
}
