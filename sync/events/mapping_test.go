package events_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

const strictFile = "dossiers:\n  fields: {name: leave out}\n"

func remap(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	mapping, err := mappings.Parse([]byte(strictFile), "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = mirror.New(pool, mirror.Options{Mapping: mapping}).Remap(t.Context())
	return err
}

func texts(t *testing.T, pool *pgxpool.Pool) (text string) {
	t.Helper()
	err := pool.QueryRow(t.Context(), `
		SELECT string_agg(concat_ws(' ', left(id, 6), dossier_id, payload -> 'data', encode(body, 'escape')), '; ' ORDER BY id) FROM webhook_events`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What a receiver stores under a mapping: what may land of an event that is understood, and of any other only its hash.
func TestPromise12_WhatCannotBeParsedKeepsOnlyItsHash(t *testing.T) {
	pool := pgtest.New(t)
	if err := remap(t, pool); err != nil {
		t.Fatal(err)
	}
	mapping, err := mappings.Parse([]byte(strictFile), "")
	if err != nil {
		t.Fatal(err)
	}
	intake := newIntake(t, pool, events.Options{Mapping: mapping})
	for _, body := range []string{
		`{"id":"evt_1","type":"dossier.updated","data":{"id":"dos_1","name":"Zqxwv","city":"Gent","deep":[{"name":"Zqxwv"}]},"by":"Zqxwv"}`,
		`{"id":"evt_2","type":"dossier.updated","data":{"id":"dos_1","name":"Zqxwv`,
		`{"id":"evt_3","type":"dossier.updated","data":{"id":"dos_1","name":"Zqxwv\u0000"}}`,
		`name=Zqxwv`,
	} {
		if stored, err := intake.Add(t.Context(), events.Received{Body: []byte(body), At: time.Now()}); err != nil || stored.Duplicate {
			t.Errorf("Add(%s) = %+v, %v", body, stored, err)
		}
	}
	if got, want := texts(t, pool), `evt_1 dos_1 {"id": "dos_1", "city": "Gent", "deep": [{}]}`; got[:len(want)] != want {
		t.Errorf("stored is %s, want %s first", got, want)
	}
	var kept, events int
	err = pool.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE to_jsonb(e)::text || encode(coalesce(body, ''), 'escape') ~ 'Zqxwv' OR body <> ''), count(*)
		FROM webhook_events e WHERE length(digest) = 32`).Scan(&kept, &events)
	if err != nil || kept != 0 || events != 4 {
		t.Errorf("of %d events %d keep the name (%v)", events, kept, err)
	}
}

// A receiver that has not been restarted since a mapping was applied stores events, but nothing that the mapping may leave out.
func TestPromise12_OldReceiverKeepsNoPayloadUnderANewMapping(t *testing.T) {
	pool := pgtest.New(t)
	old := newIntake(t, pool, events.Options{})
	add := func(id string) {
		t.Helper()
		body := `{"id":"` + id + `","type":"dossier.updated","data":{"id":"dos_1","name":"Zqxwv","city":"Gent"}}`
		if _, err := old.Add(t.Context(), events.Received{Body: []byte(body), At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	add("evt_1")
	if err := remap(t, pool); err != nil {
		t.Fatal(err)
	}
	add("evt_2")
	if _, err := old.Add(t.Context(), events.Received{Body: []byte(`{"odd":"Zqxwv"`), At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if got, want := texts(t, pool), `evt_1 dos_1 {"id": "dos_1", "city": "Gent"}; evt_2 dos_1; sha256`; got != want {
		t.Errorf("stored is %s, want %s", got, want)
	}
	if got := len(jobs(t, pool)); got != 3 {
		t.Errorf("%d flushes will be processed, want all 3", got)
	}
}

// An event that is being stored while a mapping is applied is either seen by it or stored without its payload.
func TestPromise12_MappingWaitsForEventsBeingStored(t *testing.T) {
	pool := pgtest.New(t)
	storing, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer storing.Rollback(t.Context())
	_, err = storing.Exec(t.Context(), `
		INSERT INTO webhook_events (digest, id, dossier_id, payload, flush) VALUES ('a', 'evt_1', 'dos_1', '{"id":"evt_1","data":{"id":"dos_1","name":"Zqxwv"}}', 1)`)
	if err != nil {
		t.Fatal(err)
	}
	applied := make(chan error, 1)
	go func() { applied <- remap(t, pool) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for waiting := false; !waiting; {
		err := storing.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			               WHERE NOT l.granted AND l.relation = 'webhook_events'::regclass AND d.datname = current_database())`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-applied:
			t.Fatalf("the mapping was applied (%v) beside an event being stored", err)
		default:
		}
	}
	if err := storing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	if got := texts(t, pool); got != `evt_1 dos_1 {"id": "dos_1"}` {
		t.Errorf("stored is %s", got)
	}
}
