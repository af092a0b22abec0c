// Package build says what a program was built from.
package build

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the linker where the Go tool cannot know them, as in an image built without the
// repository: -ldflags "-X github.com/leadgrid-sync/leadgrid-sync/internal/build.version=v1.2.3".
var version, commit string

// Info is what a program was built from.
type Info struct {
	Version string // the module's, or "devel"
	Commit  string // with "-dirty" if the work tree had changes; "unknown" without a repository
	Go      string
}

// Read returns what the Go tool and the linker recorded in the program.
func Read() Info {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return read(version, commit, info)
}

func read(version, commit string, info *debug.BuildInfo) Info {
	b := Info{Version: version, Commit: "unknown", Go: runtime.Version()}
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
func (b Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)", b.Version, b.Commit, b.Go, runtime.GOOS, runtime.GOARCH)
}
