package writeback_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// asked makes a command whose outcome only a person can tell: LeadGrid holds two that look like it.
func asked(t *testing.T) (w *rig, command string, candidates []string) {
	t.Helper()
	f := &faulty{operation: "dossiers.create", fault: leadgridtest.ResetAfter, times: 1}
	w = newRig(t, leadgridtest.Options{OnRequest: f.onRequest})
	f.meanwhile = func() {
		id, err := w.CreateDossier(leadgridtest.Fields{"name": "Ann"})
		if err != nil {
			t.Error(err)
		}
		candidates = append(candidates, id)
	}
	w.start(options())
	command = w.write(`create_dossier('candidate', 'Ann')`)
	if row := w.settled(command); !row.Waiting {
		t.Fatalf("it is %s", row.State)
	}
	return w, command, append(candidates, w.Creates()[0].ID)
}

func (w *rig) settle(command string, decision writeback.Decision) (writeback.State, error) {
	w.t.Helper()
	return writeback.Settle(w.t.Context(), w.observer, command, decision)
}

func TestSettleAsDone(t *testing.T) {
	t.Parallel()
	w, command, candidates := asked(t)
	note := w.write(`add_note($1, 'Hello')`, command)
	if _, err := w.settle(command, writeback.Decision{Done: "no-such-dossier"}); err == nil || !strings.Contains(err.Error(), "LeadGrid has no dossier no-such-dossier") {
		t.Errorf("settled as what is not there: %v", err)
	}
	if row := w.load(note); row.State != "pending" {
		t.Errorf("what depends on it is %s", row.State)
	}
	state, err := w.settle(command, writeback.Decision{Done: candidates[1]})
	if err != nil || state != writeback.Done {
		t.Fatalf("%s, %v", state, err)
	}
	w.done(note)
	if n := len(w.NoteIDs(candidates[1])); n != 1 {
		t.Errorf("the dossier has %d notes", n)
	}
	if _, err := w.settle(command, writeback.Decision{Retry: true}); !errors.Is(err, writeback.ErrSettled) {
		t.Errorf("settled twice: %v", err)
	}
}

func TestSettleAsRefused(t *testing.T) {
	t.Parallel()
	w, command, _ := asked(t)
	note := w.write(`add_note($1, 'Hello')`, command)
	if state, err := w.settle(command, writeback.Decision{Refused: true}); err != nil || state != writeback.Refused {
		t.Fatalf("%s, %v", state, err)
	}
	if row := w.settled(note); row.State != "refused" {
		t.Errorf("what depends on it is %s", row.State)
	}
}

func TestSettleByRetry(t *testing.T) {
	t.Parallel()
	w, command, candidates := asked(t)
	if state, err := w.settle(command, writeback.Decision{Retry: true}); err != nil || state != writeback.Pending {
		t.Fatalf("%s, %v", state, err)
	}
	row := w.done(command)
	if *row.LeadGridID == candidates[0] || *row.LeadGridID == candidates[1] || row.Attempts != 2 {
		t.Errorf("done as %s after %d attempts", *row.LeadGridID, row.Attempts)
	}
}

func TestSettleNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	if _, err := w.settle("nonsense", writeback.Decision{Refused: true}); err == nil || err.Error() != "there is no command nonsense" {
		t.Errorf("%v", err)
	}
	command := w.write(`create_contact('Ann')`)
	if _, err := w.settle(command, writeback.Decision{Refused: true}); !errors.Is(err, writeback.ErrSettled) || !strings.Contains(err.Error(), "pending") {
		t.Errorf("%v", err)
	}
}

func TestPlanShowsWhatWouldChange(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	stop := w.start(options())
	dossier := *w.done(w.write(`create_dossier('candidate', 'Ann', phone => '1')`)).LeadGridID
	contact := *w.done(w.write(`create_contact('Ann')`)).LeadGridID
	stop()
	if err := w.UpdateDossier(dossier, leadgridtest.Fields{"phone": "2"}); err != nil { // which the mirror does not know yet
		t.Fatal(err)
	}
	update := w.write(`update_dossier($1, '{"phone": "3"}', '{"phone": "1"}')`, dossier)
	move := w.write(`move_dossier($1, $2)`, dossier, w.stages[2])
	archive := w.write(`archive_dossier($1)`, dossier)
	again := w.write(`update_dossier($1, '{"phone": null}')`, dossier)
	rename := w.write(`update_contact($1, '{"full_name": "Anna"}')`, contact)
	bob := w.write(`create_dossier('candidate', 'Bob')`)
	unborn := w.write(`update_dossier($1, '{"phone": "9"}')`, bob)
	unbornToo := w.write(`update_dossier($1, '{"city": "Gent"}')`, bob)
	requests := len(w.Ledger())
	plan, err := writeback.Plan(t.Context(), w.pool, w.api)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	names := strings.NewReplacer(update, "update", move, "move", archive, "archive", again, "again", rename, "rename", unborn, "unborn", unbornToo, "unborn too", w.stages[0], "stage 1", w.stages[2], "stage 3")
	for _, c := range plan {
		lines = append(lines, names.Replace(strings.Join([]string{c.Command, c.Field, string(c.Mirror), string(c.LeadGrid), string(c.After), c.Problem}, " ")))
	}
	want := []string{
		`update phone "1" "2" "3" would be refused: phone is "2", not "1"`,
		`move current_stage_id "stage 1" "stage 1" "stage 3" `,
		`archive status "active" "active" "archived" `,
		`again phone "1" "2" null `, // what would be refused changes nothing
		`rename full_name "Ann" "Ann" "Anna" `,
		`unborn phone null null "9" LeadGrid does not have it, or not yet`,
		`unborn too city null null "Gent" LeadGrid does not have it, or not yet`,
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the plan is\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	for _, request := range w.Ledger()[requests:] {
		if request.Method != "GET" {
			t.Errorf("planning sent %s %s", request.Method, request.Path)
		}
	}
}
