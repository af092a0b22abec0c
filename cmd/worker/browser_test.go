//go:build browser

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// TestStatusPageInABrowser looks at the page in chromium, well and in trouble, wide and narrow, light and dark.
// `make browser` runs it: BROWSER names a folder with node_modules/playwright-core and gets the screenshots.
func TestStatusPageInABrowser(t *testing.T) {
	folder := os.Getenv("BROWSER")
	if folder == "" {
		t.Fatal("run `make browser`")
	}
	script, err := os.ReadFile(filepath.Join("testdata", "statuspage.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "statuspage.mjs") // node looks for modules beside the program
	if err := os.WriteFile(program, script, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.env["ADMIN_PASSWORD"], w.env["SWEEP_INTERVAL"] = "look", "1h"
	running := w.start(t)
	eventually.True(t, "the worker to be ready", func() bool { status, _ := running.get(t, "/readyz"); return status == http.StatusOK })
	look := func(state, wanted string) {
		t.Helper()
		running.awaitPage(t, wanted)
		output, err := exec.Command("node", program, "http://"+running.admin, "look", folder, state, wanted).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", state, err, output)
		}
	}
	look("empty", "Never read whole")
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	look("well", "All is well")
	w.trouble(t)
	look("trouble", "Older than promised")
}
