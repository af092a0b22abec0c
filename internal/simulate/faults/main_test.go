package main

import "testing"

// A defect that no longer fits the source would be "caught" by nothing, or by everything.
func TestDefectsFitTheSource(t *testing.T) {
	files, err := plant("../../..", defects)
	if err != nil {
		t.Fatal(err)
	}
	if len(defects) < 12 || len(files) < 10 {
		t.Errorf("%d defects in %d files", len(defects), len(files))
	}
}

func TestChecksNameNoIDsAndNoValues(t *testing.T) {
	got := checks([]byte("        simulate_test.go:33: promise 5: dossiers 7c1-a was tombstoned and lives\n" +
		"        simulate_test.go:33: after quiet and one sync: notes \"n/1\": content is \"a\", should be \"b\"\n" +
		"        simulate_test.go:35: 1364 requests, 117 events in 25.02246575s\n"))
	want := []string{"promise 5: dossiers … was tombstoned and lives", "after quiet and one sync: notes … content is different"}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("checks = %q, want %q", got, want)
	}
}
