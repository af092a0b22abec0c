package mirror_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// notes is a complete read of a dossier's notes that came on one page.
func notes(at mirror.Observation, dossier string, notes ...string) mirror.Complete {
	page := mirror.Read{Observation: at, Kind: mappings.Notes, Endpoint: mirror.ListNotes, Whole: true, Proven: true}
	for _, note := range notes {
		page.Objects = append(page.Objects, json.RawMessage(note))
	}
	return mirror.Complete{Kind: mappings.Notes, Parent: dossier, First: at, Pages: []mirror.Read{page}}
}

func note(id, dossier, content string) string {
	return fmt.Sprintf(`{"id":%q,"dossier_id":%q,"content":%q}`, id, dossier, content)
}

func (f *fixture) stretch(stretch mirror.Stretch, reads ...mirror.Complete) (applied mirror.Applied) {
	f.t.Helper()
	err := f.InTx(f.t.Context(), func(tx pgx.Tx) (err error) {
		applied, err = f.ApplyStretch(f.t.Context(), tx, mappings.Notes, reads, stretch)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return applied
}

func (f *fixture) lastRead(dossier string) int64 {
	f.t.Helper()
	last, err := f.LastRead(f.t.Context(), mirror.LedgerKind(mappings.Notes), dossier)
	if err != nil {
		f.t.Fatal(err)
	}
	return last.Number
}

// A stretch keeps one row for the lists of many dossiers; each list keeps its own place in the order all the same.
func TestPromise4_ListsOfAStretch(t *testing.T) {
	f := newFixture(t)
	old, one, between, two := f.begin(), f.begin(), f.begin(), f.begin()
	f.stretch(mirror.Stretch{Sweep: 1, Last: "d3"}, // out of order, as answers come
		notes(two, "d2", note("b", "d2", "new")), notes(one, "d1", note("a", "d1", "new"), note("c", "d1", "new")))
	f.want("what it costs", f.one(`SELECT concat_ws(' ', (SELECT count(*) FROM sync_lists), (SELECT count(*) FROM sync_reads), (SELECT count(*) FROM sync_pages))`), "1 0 0")
	for dossier, want := range map[string]int64{"d0": 0, "d1": one.Number, "d11": 0, "d2": two.Number, "d3": 0, "d4": 0} {
		if got := f.lastRead(dossier); got != want {
			t.Errorf("the notes of %s were last read by %d, want %d", dossier, got, want)
		}
	}

	page := func(at mirror.Observation, dossier string, notes ...string) mirror.Read {
		read := mirror.Read{Observation: at, Kind: mappings.Notes, Endpoint: mirror.ListNotes, Whole: true, Proven: true, Parent: dossier}
		for _, note := range notes {
			read.Objects = append(read.Objects, json.RawMessage(note))
		}
		return read
	}
	if applied := f.apply(page(old, "d1", note("a", "d1", "old"), note("c", "d1", "old"))); applied.Stale != 2 {
		t.Errorf("Stale = %d of a page that began before the list, want 2", applied.Stale)
	}
	if applied := f.apply(page(between, "d1", note("a", "d1", "between"))); applied.Changed != 1 {
		t.Error("a page that began after its dossier's list was refused, for another list's sake")
	}
	if applied := f.apply(page(between, "d2", note("b", "d2", "between"))); applied.Stale != 1 {
		t.Error("a page that began before its dossier's list was believed, for another list's sake")
	}
	f.want("notes", f.one(`SELECT string_agg(content, ' ' ORDER BY id) FROM notes`), "between new new")

	// An older complete read that finishes late judges nothing: what it left out has been seen since.
	f.exec(`UPDATE notes SET _changed_at = _changed_at - 2 * $1::interval`, lag)
	f.stretch(mirror.Stretch{Sweep: 1, After: "d3", Last: "d9"}, notes(old, "d1"))
	f.want("doubts", f.one(`SELECT count(*)::text FROM sync_doubts`), "0")
}

func TestStretchesTakeTheOlderOnesPlace(t *testing.T) {
	f := newFixture(t)
	f.exec(`INSERT INTO dossiers (id) SELECT regexp_split_to_table('abcde', '')`)
	first, second, third, fourth := f.begin(), f.begin(), f.begin(), f.begin()
	f.stretch(mirror.Stretch{Sweep: 1, Last: "b"}, notes(first, "a"), notes(first, "b"))
	f.stretch(mirror.Stretch{Sweep: 1, After: "b", Last: "d"}, notes(second, "c"), notes(second, "d"))
	want := func(when string, numbers ...int64) {
		t.Helper()
		for i, want := range numbers {
			if got := f.lastRead(string(rune('a' + i))); got != want {
				t.Errorf("%s: the notes of %c were last read by %d, want %d", when, 'a'+i, got, want)
			}
		}
	}
	want("after the first sweep", first.Number, first.Number, second.Number, second.Number)
	f.stretch(mirror.Stretch{Sweep: 2, Last: "c"}, notes(third, "a"), notes(third, "c"))
	want("when the second is under way, without b", third.Number, first.Number, third.Number, second.Number)
	f.want("rows", f.one(`SELECT string_agg(last || sweep, ' ' ORDER BY last) FROM sync_lists`), "c2 d1")
	f.stretch(mirror.Stretch{Sweep: 2, After: "c", Last: "e"}, notes(fourth, "e"))
	want("when it is over, without d", third.Number, first.Number, third.Number, second.Number, fourth.Number)
	f.want("the view", f.one(`SELECT string_agg(id || observation, ' ' ORDER BY id) FROM sync_last_reads WHERE kind = 'complete notes'`),
		fmt.Sprintf("a%d b%d c%d d%d e%d", third.Number, first.Number, third.Number, second.Number, fourth.Number))
	f.want("rows of their own", f.one(`SELECT string_agg(id, ' ' ORDER BY id) FROM sync_reads`), "b d")
}

// As dossiers with the greatest ids go, the stretches of several sweeps come to hold the same dossier.
func TestStretchesOfSeveralSweepsHoldTheSameDossier(t *testing.T) {
	f := newFixture(t)
	f.exec(`INSERT INTO dossiers (id) SELECT regexp_split_to_table('abcde', '')`)
	first, second, third, fourth := f.begin(), f.begin(), f.begin(), f.begin()
	f.stretch(mirror.Stretch{Sweep: 1, Last: "d"}, notes(first, "a"), notes(first, "b"), notes(first, "d"))
	f.stretch(mirror.Stretch{Sweep: 2, Last: "c"}, notes(second, "a"), notes(second, "b"), notes(second, "c"))
	f.stretch(mirror.Stretch{Sweep: 3, Last: "a"}, notes(third, "a"))
	f.stretch(mirror.Stretch{Sweep: 4, Last: "e"}, notes(fourth, "a"), notes(fourth, "e"))
	for dossier, want := range map[string]int64{
		"a": fourth.Number, "b": second.Number, "c": second.Number, "d": first.Number, "e": fourth.Number,
	} {
		if got := f.lastRead(dossier); got != want {
			t.Errorf("the notes of %s were last read by %d, want %d", dossier, got, want)
		}
	}
}

// Rows of complete lists are looked up by their parent, so those that were another's must be looked for by themselves: COPY would
// meet them as new, and what one said of itself before would be lost.
func TestPromise6_NotesThatMovedToAnotherDossier(t *testing.T) {
	f := newFixture(t)
	var before, after []string
	for i := range 20 { // more than are added one by one
		id := fmt.Sprintf("n%02d", i)
		before, after = append(before, note(id, "d1", "same")), append(after, note(id, "d2", "same"))
	}
	f.stretch(mirror.Stretch{Sweep: 1, Last: "d2"}, notes(f.begin(), "d1", before...), notes(f.begin(), "d2"))
	again := f.begin()
	if applied := f.stretch(mirror.Stretch{Sweep: 2, Last: "d2"}, notes(again, "d2", after...)); applied.Changed != 20 || len(applied.Inserted) != 0 {
		t.Errorf("%d notes changed and %d are new, want 20 and 0", applied.Changed, len(applied.Inserted))
	}
	f.want("where they are", f.one(`SELECT string_agg(DISTINCT dossier_id || ' ' || (_deleted_at IS NULL), ',') FROM notes`), "d2 true")
	f.want("who is in doubt", f.one(`SELECT count(*) FROM sync_doubts`), "0")
}
