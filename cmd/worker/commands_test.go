package main

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// write writes a command as a customer's program does.
func (w *world) write(t *testing.T, call string, args ...any) (id string) {
	t.Helper()
	if err := w.pool.QueryRow(t.Context(), `SELECT `+call, args...).Scan(&id); err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	return id
}

func (w *world) awaitCommand(t *testing.T, id, state string) (leadgridID string) {
	t.Helper()
	eventually.True(t, "command to be "+state, func() bool {
		var now string
		err := w.pool.QueryRow(t.Context(), `
			SELECT CASE WHEN state = 'unknown' AND due_at IS NOT NULL THEN 'looked into' ELSE state END, coalesce(leadgrid_id, '')
			FROM commands WHERE id = $1::uuid`, id).Scan(&now, &leadgridID)
		if err != nil {
			t.Fatal(err)
		}
		return now == state
	})
	return leadgridID
}

// A command whose outcome cannot be told, from LeadGrid's lost answer to a person's verdict, with the program as it is.
func TestCommandsAreListedAndSettled(t *testing.T) {
	t.Parallel()
	var w *world
	var lost atomic.Bool
	w = newWorld(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		if r.Operation == "dossiers.create" && lost.CompareAndSwap(true, false) {
			// Somebody at work types the same, and the answer to ours is lost.
			if _, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann Peeters"}); err != nil {
				t.Error(err)
			}
			return leadgridtest.ErrorAfter
		}
		return leadgridtest.Healthy
	}})
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	w.run(t, "commands").want(t, 0, "0 pending, 0 sending, 0 done, 0 refused, 0 unknown")
	w.start(t)
	lost.Store(true)
	command := w.write(t, `create_dossier('candidate', 'Ann Peeters')`)
	note := w.write(t, `add_note($1, 'Hello')`, command)
	w.awaitCommand(t, command, "unknown")

	list := w.run(t, "commands")
	t.Log("\n" + list.out)
	ours := w.Creates()[0].ID
	list.want(t, 0, "1 pending, 0 sending, 0 done, 0 refused, 1 unknown")
	list.want(t, 0, "LeadGrid shows 2 that may be what this command made")
	list.want(t, 0, ours)
	list.want(t, 0, "every field as sent")
	w.run(t, "commands", "--state", "unknown", "--json").want(t, 0, `"waits_for_a_person": true`)
	w.run(t, "commands", "--state", "lost").want(t, exitUsage, `there is no state "lost"`)

	w.run(t, "commands", "settle", command).want(t, exitUsage, "at least one of the flags in the group [done refused retry] is required")
	w.run(t, "commands", "settle", command, "--done", "d0").want(t, exitFailed, "LeadGrid has no dossier d0")
	settled := w.run(t, "commands", "settle", command, "--done", ours)
	t.Log(settled.out)
	settled.want(t, 0, "command "+command+" is done")
	w.run(t, "commands", "settle", command, "--retry").want(t, exitUsage, "only a command whose outcome is unknown can be settled: this one is done")
	w.awaitCommand(t, note, "done")
	if notes := w.NoteIDs(ours); len(notes) != 1 {
		t.Errorf("the dossier that the person chose has %d notes", len(notes))
	}
}

func TestCommandsWaitWhilePaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	dossier := w.DossierIDs()[0]
	w.env["WRITEBACK_PAUSED"] = "true"
	paused := w.start(t)
	command := w.write(t, `update_dossier($1, '{"company": "Peeters & Zn"}', '{"status": "nonsense"}')`, dossier)
	archive := w.write(t, `archive_dossier($1)`, dossier)
	if err := w.UpdateDossier(dossier, leadgridtest.Fields{"company": "Peeters"}); err != nil {
		t.Fatal(err)
	}
	plan := w.run(t, "commands", "plan")
	t.Log("\n" + plan.out)
	plan.want(t, 0, `"Peeters"`)
	plan.want(t, 0, "would be refused")
	if _, page := paused.get(t, "/metrics"); !strings.Contains(page, "leadgrid_writeback_paused 1") ||
		!strings.Contains(page, `leadgrid_commands_open{operation="archive_dossier",state="pending"} 1`) {
		t.Error("the metrics do not tell that write-back is paused, and one waits")
	}
	paused.stop(t, syscall.SIGTERM)
	delete(w.env, "WRITEBACK_PAUSED")
	w.start(t)
	w.awaitCommand(t, command, "refused")
	w.awaitCommand(t, archive, "done")
	w.run(t, "commands").want(t, 0, "it is not as expected: status is")
	w.run(t, "commands", "plan").want(t, 0, "no update is pending")
}

func TestWritingIsGrantedApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.run(t, "migrate", "--writeback-role", "no_such_role").want(t, exitFailed, "no_such_role")
}
