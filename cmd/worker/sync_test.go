package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

const equal = "the mirror is equal"

func TestPromise6_SyncWaitBesideAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.start(t)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantEqual(t)
}

func TestPromise6_SyncWaitWithoutAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantEqual(t)
	w.Stir(40)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantEqual(t)
}

func TestSyncWithoutWaitLeavesItToTheWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.run(t, "sync").want(t, 0, "sweep 1 is asked for")
	if len(w.Ledger()) > 0 {
		t.Error("it asked LeadGrid itself")
	}
	w.start(t)
	w.waitForSweep(t, 1, "done")
	w.wantEqual(t)
}

func TestSyncOfSomeResources(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.run(t, "sync", "--wait", "flows", "dossiers").want(t, 0, equal)
	w.wantEqual(t, "flows", "stages", "dossiers")
	w.run(t, "sync", "--wait", "folders").want(t, exitUsage, `there is no resource "folders": choose from [flows dossiers`)
}

// Whatever LeadGrid refuses ends at once, with a code of its own, and is over as soon as LeadGrid takes it back.
func TestSyncSaysWhatLeadGridRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refuse func(w *world)
		code   int
		says   string
	}{
		"a revoked key": {
			func(w *world) { w.RevokeKey(w.Key()) }, exitRefused, "LeadGrid refuses the API key (401)",
		},
		"a plan without API access": {
			func(w *world) { w.SetPlan(false) }, exitRefused, "it needs the Growth plan",
		},
		"a missing scope": {
			func(w *world) {
				w.SetKey(w.Key(), w.Organization, slices.DeleteFunc(slices.Clone(leadgridtest.Scopes), func(scope string) bool {
					return scope == "notes:read"
				})...)
			}, exitScope, "it lacks the scope notes:read",
		},
		"another organization's key": {
			func(w *world) {
				other := w.NewOrganization()
				other.Seed(small)
				w.SetKey(w.Key(), other)
			}, exitForeign, "another organization than the one mirrored",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, leadgridtest.Options{})
			w.Seed(small)
			w.run(t, "sync", "--wait").want(t, 0, equal)

			c.refuse(w)
			began := time.Now()
			w.run(t, "sync", "--wait").want(t, c.code, c.says)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v to find out", took)
			}
			w.wantEqual(t) // nothing was written, nothing deleted
			w.run(t, "status").want(t, 0, "PAUSED")

			w.SetPlan(true)
			w.SetKey(w.Key(), w.Organization)
			w.Stir(10)
			w.run(t, "sync", "--wait").want(t, 0, equal)
			w.wantEqual(t)
			if said := w.run(t, "status").out; strings.Contains(said, "PAUSED") {
				t.Errorf("still paused:\n%s", said)
			}
		})
	}
}

func TestSyncWhoseKeyIsRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	var server atomic.Pointer[leadgridtest.Server]
	w := newWorld(t, leadgridtest.Options{OnRequest: func(leadgridtest.Request) leadgridtest.Fault {
		if requests.Add(1) == 60 {
			go server.Load().RevokeKey("lg_live_test")
		}
		return ""
	}})
	server.Store(w.Server)
	w.Seed(leadgridtest.Size{Dossiers: 300, Contacts: 20, Links: 100, Notes: 100})
	w.run(t, "sync", "--wait").want(t, exitRefused, "LeadGrid refuses the API key (401)")
	w.SetKey(w.Key(), w.Organization)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantEqual(t)
}

func TestPromise5_BreakerUntilDeletionsAreAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(leadgridtest.Size{Dossiers: 150, Contacts: 20, Links: 50, Notes: 50})
	w.run(t, "sync", "--wait").want(t, 0, equal)
	before := w.Snapshot()
	for _, id := range w.DossierIDs()[:70] {
		if err := w.RemoveDossier(id); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, "sync", "--wait").want(t, exitBreaker, "70 of 150 dossiers are no longer in LeadGrid's lists")
	var live int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM dossiers WHERE _deleted_at IS NULL`).Scan(&live); err != nil {
		t.Fatal(err)
	}
	if live != len(before["dossiers"]) {
		t.Errorf("%d dossiers are left, want all %d", live, len(before["dossiers"]))
	}
	w.run(t, "sync", "--wait", "--accept-deletions").want(t, 0, equal)
	w.wantEqual(t)
}

func TestSyncIsInterruptedAndGoesOn(t *testing.T) {
	t.Parallel()
	slow := leadgridtest.Settings{Faults: leadgridtest.Faults{Slow: 1, SlowFor: 300 * time.Millisecond}}
	w := newWorld(t, leadgridtest.Options{Settings: slow})
	w.Seed(leadgridtest.Size{Dossiers: 300, Contacts: 20, Links: 100, Notes: 100})
	cmd := w.command(t, "sync", "--wait")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.waitForRequests(t, 1, 100)
	began := time.Now()
	_ = cmd.Process.Signal(syscall.SIGINT) // an end shows below
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(errs.String(), "sweep 1: it goes on where it was") {
		t.Errorf("it ended with %d:\n%s", code, errs.String())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	w.start(t)
	w.waitForSweep(t, 1, "done")
	w.wantEqual(t)
	if n := w.requests(t, 1); n > 800 { // 300 of them twice, and the lists
		t.Errorf("the sweep took %d requests: it began anew", n)
	}
}

func TestPromise6_SyncThroughFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{
			HideArchived: true, IDs: "short", RetryAfter: "date",
			ListOmits: []string{"dossiers.intake_notes", "dossiers.organization_id", "contacts.notes"},
		},
		Faults: leadgridtest.Faults{ErrorBefore: 0.02, Truncated: 0.02},
	}})
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, equal)
	w.wantEqual(t)
}

// Whoever waits is told what the sweep meets, and that it goes on.
func TestSyncSaysWhyItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{Settings: leadgridtest.Settings{Faults: leadgridtest.Faults{ErrorBefore: 1}}})
	w.Seed(small)
	cmd := w.command(t, "sync", "--wait")
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "trying again after: ") && strings.Contains(lines.Text(), "500") {
			w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
			break
		}
	}
	for lines.Scan() { // to its end
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	w.wantEqual(t)
}

// A key in a file may be exchanged under a running worker.
func TestKeyRotatesWithoutARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	file := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(w.Key())
	delete(w.env, "LEADGRID_API_KEY")
	w.env["LEADGRID_API_KEY_FILE"] = file
	running := w.start(t)
	w.run(t, "sync").want(t, 0, "sweep 1 is asked for")
	w.waitForSweep(t, 1, "done")

	w.RevokeKey(w.Key())
	w.run(t, "sync").want(t, 0, "sweep 2 is asked for")
	eventually.True(t, "the worker to say that it is refused", func() bool {
		return strings.Contains(running.logged(), "LeadGrid refuses the API key (401)")
	})
	w.SetKey("lg_live_next", w.Organization)
	write("lg_live_next")
	w.run(t, "sync", "--wait").want(t, 0, equal) // which also wakes sweep 2
	w.waitForSweep(t, 2, "done")
	if strings.Contains(running.logged(), "lg_live") {
		t.Error("a key is in the log")
	}
}

func TestSyncOfAWrongAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.env["LEADGRID_BASE_URL"] = w.URL() + "/v2"
	w.run(t, "sync", "--wait").want(t, exitUsage, "is LEADGRID_BASE_URL right?")
}

func TestSyncWithoutASchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	if _, err := w.pool.Exec(t.Context(), `DROP SCHEMA leadgrid CASCADE`); err != nil {
		t.Fatal(err)
	}
	w.run(t, "sync", "--wait").want(t, exitFailed, "run `worker migrate`")
	for _, command := range [][]string{{"status"}, {"replay", "--since", "1h"}, {"erase", "contact", "c"}} {
		w.run(t, command...).want(t, exitFailed, "run `worker migrate`")
	}
}
