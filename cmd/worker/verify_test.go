package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/verify"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestVerifySaysWhetherTheMirrorIsEqual(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	w.run(t, "verify").want(t, 0, "the mirror is equal")

	if _, err := w.pool.Exec(t.Context(), `UPDATE dossiers SET name = 'somebody' WHERE id = (SELECT min(id) FROM dossiers)`); err != nil {
		t.Fatal(err)
	}
	ended := w.run(t, "verify", "--sample", "5", "--json")
	ended.want(t, 1, "the mirror is not equal: 1 differences")
	var report verify.Report
	if err := json.Unmarshal([]byte(ended.out), &report); err != nil || len(report.Findings) != 1 || !report.Sampled {
		t.Errorf("reported %s (%v)", ended.out, err)
	}
	if ended := w.run(t, "verify"); ended.code != 1 || strings.Contains(ended.out+ended.errs, "somebody") {
		t.Errorf("it ended with %d and said %s%s", ended.code, ended.out, ended.errs)
	}

	w.run(t, "verify", "--sample", "-1").want(t, 2, "--sample")
	w.SetKey(w.Key(), w.Organization, "dossiers:read")
	w.run(t, "verify").want(t, 4, "scope")
	w.RevokeKey(w.Key())
	w.run(t, "verify").want(t, 3, "key")
	if _, err := w.pool.Exec(t.Context(), `ALTER TABLE notes RENAME TO elsewhere`); err != nil {
		t.Fatal(err)
	}
	w.run(t, "verify").want(t, 8, "notes")
}
