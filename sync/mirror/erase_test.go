package mirror_test

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

func (f *fixture) erase(contact string) {
	f.t.Helper()
	err := f.InTx(f.t.Context(), func(tx pgx.Tx) error {
		_, err := f.Erase(f.t.Context(), tx, mirror.Erasure{Contacts: []string{contact}, Reason: mirror.ErasedByCommand})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// gone takes a row for deleted in LeadGrid, after all the evidence.
func (f *fixture) gone(kind mappings.Kind, id string) {
	f.t.Helper()
	f.exec(`INSERT INTO sync_doubts (kind, parent, id, reason, observation) VALUES ($1, '', $2, 'gone', $3)`, kind, id, f.begin().Number)
	err := f.InTx(f.t.Context(), func(tx pgx.Tx) error {
		_, err := f.Tombstone(f.t.Context(), tx, kind, []string{id}, f.begin())
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// A dossier about somebody who was erased goes with its deletion in LeadGrid, and comes back with it, unless somebody had asked
// for the erasure.
func TestPromise6_DossierThatComesBackIsWhole(t *testing.T) {
	for _, reason := range []string{mirror.ErasedUpstream, mirror.ErasedByCommand} {
		f := newFixture(t)
		show := func(kind mappings.Kind, endpoint mirror.Endpoint, parent, object string) {
			t.Helper()
			f.apply(mirror.Read{Observation: f.begin(), Kind: kind, Endpoint: endpoint, Parent: parent, Whole: true, Proven: true,
				Objects: []json.RawMessage{json.RawMessage(object)}})
		}
		dossier := func() {
			t.Helper()
			f.apply(get(f.begin(), `{"id":"d","name":"Ana Peeters"}`))
			show(mappings.Notes, mirror.ListNotes, "d", `{"id":"n","dossier_id":"d","content":"Called Ana"}`)
		}
		row := func() string { return f.one(`SELECT name FROM dossiers`) + ", " + f.one(`SELECT content FROM notes`) }
		dossier()
		show(mappings.Contacts, mirror.GetContact, "", `{"id":"c","full_name":"Ana Peeters"}`)
		show(mappings.Links, mirror.ListLinks, "d", `{"dossier_id":"d","contact_id":"c","full_name":"Ana Peeters"}`)
		if reason == mirror.ErasedByCommand {
			f.erase("c")
		} else {
			f.gone(mappings.Contacts, "c")
		}
		f.want(reason+": while the dossier lives", row(), "Ana Peeters, Called Ana")
		f.gone(mappings.Dossiers, "d")
		f.want(reason+": once it is gone", row(), "<null>, <null>")

		dossier()
		want := "Ana Peeters, Called Ana"
		if reason == mirror.ErasedByCommand {
			want = "<null>, <null>"
		}
		f.want(reason+": once it is back", row(), want)
	}
}

// A command that is being sent while its person is erased is emptied when it ends, whatever LeadGrid answers.
func TestPromise11_AnswerThatComesAfterTheErasure(t *testing.T) {
	f := newFixture(t)
	f.apply(mirror.Read{Observation: f.begin(), Kind: mappings.Contacts, Endpoint: mirror.GetContact, Whole: true, Proven: true,
		Objects: []json.RawMessage{json.RawMessage(`{"id":"con_1","full_name":"Ana Peeters"}`)}})
	f.exec(`INSERT INTO commands (operation, state, contact_id, arguments)
		VALUES ('update_contact', 'sending', 'con_1', '{"full_name":"Ana Peeters"}'), ('update_contact', 'sending', 'other', '{"city":"Gent"}')`)
	f.erase("con_1")
	f.want("while it is being sent", f.one(`SELECT arguments ->> 'full_name' FROM commands WHERE contact_id = 'con_1'`), "Ana Peeters")
	f.exec(`UPDATE commands SET state = 'done', result = '{"full_name":"Ana Peeters"}', error = 'Ana Peeters', evidence = '{"a":"Ana Peeters"}'`)
	f.want("once it has ended", f.one(`SELECT concat_ws(', ', arguments, result, error, evidence) FROM commands WHERE contact_id = 'con_1'`), "{}, erased")
	f.want("another person's", f.one(`SELECT result ->> 'full_name' FROM commands WHERE contact_id = 'other'`), "Ana Peeters")
}

// A person's name stands in JSON as JSON writes it, and whatever the database's locale takes for lower case is the same on
// both sides.
func TestPromise11_ErasedAsJSONWritesThem(t *testing.T) {
	f := newFixture(t)
	const name = `Élodie "Lo" d\'Ârc`
	object, err := json.Marshal(map[string]string{"id": "c", "full_name": name})
	if err != nil {
		t.Fatal(err)
	}
	f.apply(mirror.Read{Observation: f.begin(), Kind: mappings.Contacts, Endpoint: mirror.GetContact, Whole: true, Proven: true,
		Objects: []json.RawMessage{object}})
	for _, told := range []string{name, "Somebody else"} {
		f.exec(`INSERT INTO webhook_events (digest, id, payload, flush) VALUES (sha256(convert_to($1, 'UTF8')), 'evt', jsonb_build_object('by', $2::text), 1)`,
			told, told)
	}
	f.erase("c")
	f.want("payloads left", f.one(`SELECT string_agg(payload ->> 'by', ', ') FROM webhook_events`), "Somebody else")
}
