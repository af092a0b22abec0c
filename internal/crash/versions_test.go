//go:build versions

package crash_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

var other = flag.String("other", "", "the worker of another version, to go on with sweeps in turn with this one")

// TestPromise6_AnotherVersionGoesOn kills the worker in the midst of a sweep and has one of another version go on with it, as in a
// roll-out and a rollback: phases that a version does not know must cost no row.
func TestPromise6_AnotherVersionGoesOn(t *testing.T) {
	binary, err := os.ReadFile(*other)
	if err != nil {
		t.Fatalf("-other is to name the worker of another version: %v", err)
	}
	w := newWorld(t, 11, nil)
	if err := os.WriteFile(filepath.Join(w.folder, "other"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	w.sync(t)
	w.Change(func(s *leadgridtest.Settings) {
		s.Faults = leadgridtest.Faults{WebhookDropped: 1, Slow: 1, SlowFor: 300 * time.Millisecond}
	})
	another := &program{world: w, name: "other", args: []string{"run"}, admin: address(t)}
	t.Cleanup(another.kill)
	for _, pair := range [][2]*program{{w.worker, another}, {another, w.worker}} {
		for _, phase := range []string{"flows", "dossiers", "contacts in_pool first", "contacts", "contacts expired", "links", "notes"} {
			first, second := pair[0], pair[1]
			t.Run(first.name+" "+phase, func(t *testing.T) {
				second.kill()
				first.start(t)
				first.awaitReady(t)
				w.Stir(60)
				w.ask(t)
				sweep := fmt.Sprintf(`FROM sync_sweeps WHERE id = %d`, w.count(t, `SELECT max(id) FROM sync_sweeps`))
				done := func() bool { return w.count(t, `SELECT count(*) `+sweep+` AND state = 'done'`) > 0 }
				eventually.True(t, phase, func() bool {
					return done() || w.count(t, `SELECT count(*) `+sweep+` AND progress->>'phase' = '`+phase+`'`) > 0
				}, first.said.String)
				first.kill()
				t.Logf("%s left it at %s", first.name, w.text(t, `SELECT concat_ws(' ', state, progress->>'phase', progress->>'walk', progress->>'after') `+sweep))
				w.letAMinutePass(t)
				second.start(t)
				eventually.True(t, "the sweep to be done", done, func() string {
					return second.said.String() + w.text(t, `SELECT concat_ws(' ', state, message, progress::text) `+sweep)
				})
				w.wantEqual(t)
			})
		}
	}
}
