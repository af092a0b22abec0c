package build

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: modified}}
	}
	for _, test := range []struct {
		version, commit string // as linked
		info            debug.BuildInfo
		want            string
	}{
		{"", "", debug.BuildInfo{}, "devel (commit unknown"},
		{"", "", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("true")}, "devel (commit 0123456789ab-dirty"},
		{"", "", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: vcs("false")}, "v1.2.3 (commit 0123456789ab,"},
		{"v2.0.0", "", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "v2.0.0 (commit unknown"},
		{"v2.0.0", "abcdef0123456789", debug.BuildInfo{Settings: vcs("true")}, "v2.0.0 (commit abcdef012345,"},
	} {
		if got := read(test.version, test.commit, &test.info).String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("read = %q, want it to start with %q", got, test.want)
		}
	}
}
