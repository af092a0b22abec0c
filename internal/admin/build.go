package admin

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// version and commit are set by the linker where the Go tool does not know them, as in an image built without the
// repository: -ldflags "-X github.com/leadgrid-sync/leadgrid-sync/internal/admin.version=v1.2.3".
var version, commit string

// Build says what this program was built from.
type Build struct {
	Version string // the module's, or "devel"
	Commit  string // with "-dirty" if the work tree had changes; "unknown" without a repository
	Go      string
}

// ReadBuild reads what the Go tool wrote into the program.
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return build(version, commit, info)
}

func build(version, commit string, info *debug.BuildInfo) Build {
	b := Build{Version: version, Commit: "unknown", Go: runtime.Version()}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	if commit != "" {
		b.Commit = shortened(commit)
		return b
	}
	dirty := false
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = shortened(setting.Value)
		case "vcs.modified":
			dirty = setting.Value == "true"
		}
	}
	if dirty {
		b.Commit += "-dirty"
	}
	return b
}

func shortened(commit string) string { return commit[:min(len(commit), 12)] }

// String is what --version prints after the program's name.
func (b Build) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)", b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH)
}

func buildInfo(b Build) prometheus.Collector {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "leadgrid_build_info",
		Help:        "What the program was built from; always 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	gauge.Set(1)
	return gauge
}
