package sweep

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// While another organization is behind the key every dossier is missing, and the sweep waits. Then it must read them.
func TestPromise6_WhatWasMissingForAMomentIsStillToBeRead(t *testing.T) {
	pool := pgtest.New(t)
	m := mirror.New(pool, mirror.Options{})
	w := New(observe.New(new(leadgridapi.Client), m, access.New(pool, time.Minute)), Options{})
	begin := func() mirror.Observation {
		at, err := m.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	in := func(do func(tx pgx.Tx) error) {
		t.Helper()
		if err := m.InTx(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	}
	get := func() {
		t.Helper()
		in(func(tx pgx.Tx) error {
			_, err := m.Apply(t.Context(), tx, mirror.Read{Observation: begin(), Kind: mappings.Dossiers, Endpoint: mirror.GetDossier,
				Objects: []json.RawMessage{json.RawMessage(`{"id":"d"}`)}, Whole: true, Proven: true})
			return err
		})
	}
	get()
	s := &Sweep{Progress: Progress{Began: begin()}}
	want := func(when string, ids ...string) {
		t.Helper()
		due, err := w.due(t.Context(), s, mappings.Dossiers, string(mappings.Dossiers), chunk)
		if err != nil || !slices.Equal(due.ids, ids) {
			t.Errorf("%s: to be read are %q, %v, want %q", when, due.ids, err, ids)
		}
	}
	want("at first", "d")
	in(func(tx pgx.Tx) error {
		_, err := m.NotFound(t.Context(), tx, mappings.Dossiers, "d", begin())
		return err
	})
	want("after a 404", "d")
	get()
	want("once it was read")
}
