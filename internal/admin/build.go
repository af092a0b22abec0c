package admin

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// version is set by the linker where the module's own is not known, as in an image built without the repository:
// -ldflags "-X github.com/leadgrid-sync/leadgrid-sync/internal/admin.version=v1.2.3".
var version string

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
	return build(version, info)
}

func build(linked string, info *debug.BuildInfo) Build {
	b := Build{Version: linked, Commit: "unknown", Go: runtime.Version()}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	dirty := false
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = setting.Value[:min(len(setting.Value), 12)]
		case "vcs.modified":
			dirty = setting.Value == "true"
		}
	}
	if dirty {
		b.Commit += "-dirty"
	}
	return b
}

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
