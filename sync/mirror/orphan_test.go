package mirror_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// A dossier's notes were asked for before it went, or of a replica that still had it, and the answer is applied after the dossier was
// marked as deleted. No sweep reads the notes of a dossier that is gone: nothing would ever take them away again.
func TestPromise6_NotesOfAGoneDossierDoNotComeBack(t *testing.T) {
	f := newFixture(t)
	f.apply(get(f.begin(), `{"id":"d","name":"Ana"}`))
	f.stretch(mirror.Stretch{Sweep: 1, Last: "d"}, notes(f.begin(), "d", note("a", "d", "old")))
	began := f.begin()
	f.exec(`INSERT INTO sync_doubts (kind, id, reason, observation, since) VALUES ('dossiers', 'd', 'gone', 0, now())`)
	err := f.InTx(t.Context(), func(tx pgx.Tx) error {
		_, err := f.Tombstone(t.Context(), tx, mappings.Dossiers, []string{"d"}, f.begin())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	live := func() string {
		return f.one(`SELECT concat_ws(' ', count(*), string_agg(id, ',')) FROM notes WHERE _deleted_at IS NULL`)
	}
	for what, at := range map[string]mirror.Observation{"before the dossier went": began, "of a replica that still had it": f.begin()} {
		err := f.InTx(t.Context(), func(tx pgx.Tx) error {
			_, err := f.ApplyComplete(t.Context(), tx, notes(at, "d", note("a", "d", "old"), note("b", "d", "new")))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		f.want("live notes after a read "+what, live(), "0")
	}
	f.apply(get(f.begin(), `{"id":"d","name":"Ana"}`))
	if last := f.lastRead("d"); last >= began.Number {
		t.Errorf("the notes count as read by %d, but nothing of it was applied", last)
	}
	f.stretch(mirror.Stretch{Sweep: 2, Last: "d"}, notes(f.begin(), "d", note("a", "d", "old")))
	f.want("live notes once the dossier is back", live(), "1 a")
}
