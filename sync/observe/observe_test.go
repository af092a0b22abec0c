package observe_test

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
	"github.com/leadgrid-sync/leadgrid-sync/sync/observe"
)

// What began later is believed, and the page of a list that hides the phone began later: the GET must be sent again.
func TestPromise4_ReadThatAThinPageOvertookIsReadAgain(t *testing.T) {
	pool := pgtest.New(t)
	m := mirror.New(pool, mirror.Options{})
	var id string
	var overtakes atomic.Bool
	server := leadgridtest.New(leadgridtest.Options{OnRequest: func(request leadgridtest.Request) leadgridtest.Fault {
		if request.Operation == "dossiers.get" && overtakes.CompareAndSwap(true, false) {
			at, err := m.Begin(t.Context())
			if err == nil {
				err = m.InTx(t.Context(), func(tx pgx.Tx) error {
					object, err := json.Marshal(map[string]string{"id": id})
					if err == nil {
						_, err = m.Apply(t.Context(), tx, mirror.Read{Observation: at, Kind: mappings.Dossiers,
							Endpoint: mirror.ListDossiers, Objects: []json.RawMessage{object}, Proven: true})
					}
					return err
				})
			}
			if err != nil {
				t.Error(err)
			}
		}
		return ""
	}})
	t.Cleanup(server.Close)
	id, err := server.CreateDossier(leadgridtest.Fields{"type": "candidate", "name": "Ana", "phone": "1"})
	if err != nil {
		t.Fatal(err)
	}
	api, err := leadgridapi.New(server.URL(), server.Key())
	if err != nil {
		t.Fatal(err)
	}
	observer := observe.New(api, m, access.New(pool, time.Minute))
	if _, err := observer.Dossier(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := server.UpdateDossier(id, leadgridtest.Fields{"phone": "2"}); err != nil {
		t.Fatal(err)
	}

	overtakes.Store(true)
	steps := 0
	result, err := observer.Dossier(t.Context(), id, func(pgx.Tx, mirror.Applied) error { steps++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if result.Requests != 2 || steps != 1 {
		t.Errorf("%d requests, %d times done, want 2 and 1", result.Requests, steps)
	}
	var phone string
	if err := pool.QueryRow(t.Context(), `SELECT phone FROM dossiers WHERE id = $1`, id).Scan(&phone); err != nil || phone != "2" {
		t.Errorf("phone %q, %v, want 2", phone, err)
	}
}

// The gate is closed because the key read another organization. What the probe reads then is nothing that the mirror knows, so that
// only a witness can open the gate again.
func TestPromise6_ProbeOfSomethingNewOpensTheGate(t *testing.T) {
	pool := pgtest.New(t)
	server := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{Omits: []string{"dossiers.organization_id"}},
	}})
	t.Cleanup(server.Close)
	api, err := leadgridapi.New(server.URL(), server.Key())
	if err != nil {
		t.Fatal(err)
	}
	gate := access.New(pool, time.Hour)
	observer := observe.New(api, mirror.New(pool, mirror.Options{}), gate)
	create := func(name string) string {
		id, err := server.CreateDossier(leadgridtest.Fields{"type": "candidate", "name": name})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if _, err := observer.Dossier(t.Context(), create("Ana")); err != nil {
		t.Fatal(err)
	}
	if err := gate.Foreign(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := create("Bea")
	if _, err := observer.Dossier(t.Context(), fresh); err == nil {
		t.Fatal("it is read although no probe is due")
	}
	if err := observer.Prove(t.Context()); err == nil {
		t.Fatal("it is proved although no probe is due")
	}
	if err := gate.ProbeNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := observer.Dossier(t.Context(), fresh); err != nil {
		t.Errorf("the probe: %v", err)
	}
	if pauses, err := access.Pauses(t.Context(), pool); err != nil || len(pauses) != 0 {
		t.Errorf("still paused: %v, %v", pauses, err)
	}
}
