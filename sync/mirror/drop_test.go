package mirror_test

import (
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

const dropFile = "dossiers:\n  raw: drop\n  columns:\n    score: {from: custom.score, type: numeric}\n    level: {from: custom.level, type: text}\n    extra: jsonb\n"

// TestRawDroppedIsMergedFromColumns tells a table without _raw what tables with one are told elsewhere.
func TestRawDroppedIsMergedFromColumns(t *testing.T) {
	f := newFixture(t).under(dropFile)
	const object = `{"id":"d","name":7,"email":null,"deal_size":"1500.50","created_at":"2026-01-02T03:04:05.1234567Z","updated_at":"2026-01-02T00:00:00Z",
		"custom":{"score":12.50,"level":"a\u0000b","other":"x"},"extra":{"a":[1.0,"é"]},"planet":"x","assigned_to":["u"],"current_stage_id":"s1"}`
	f.apply(get(f.begin(), object))
	row := func() string {
		return f.one(`SELECT concat_ws(' ', name, email, deal_size, created_at AT TIME ZONE 'UTC', score, level, extra, assigned_to, _raw, _original) FROM dossiers`)
	}
	const stands = "7 1500.50 2026-01-02 03:04:05.123457 12.50 a\uFFFDb {\"a\": [1.0, \"é\"]} [\"u\"]"
	f.want("row", row(), stands)
	version := f.one(`SELECT ctid::text || xmin::text FROM dossiers`)
	for name, read := range map[string]mirror.Read{
		"the same GET":         get(f.begin(), object),
		"a list":               list(f.begin(), object),
		"another unknown":      get(f.begin(), object[:len(object)-1]+`,"moon":1}`),
		"a thin list":          thin(f.begin(), `{"id":"d","name":"7"}`),
		"a thin list, nested":  thin(f.begin(), `{"id":"d","custom":{"score":12.5,"level":"a\u0000b"}}`),
		"a thin list of times": thin(f.begin(), `{"id":"d","created_at":"2026-01-02T04:04:05.1234567+01:00","deal_size":15005e-1}`),
		"an unknown field":     thin(f.begin(), `{"id":"d","is_default":3}`),
	} {
		if applied := f.apply(read); applied.Changed != 0 {
			t.Errorf("%s: %d rows changed", name, applied.Changed)
		}
		f.want(name+": row version", f.one(`SELECT ctid::text || xmin::text FROM dossiers`), version)
	}
	f.apply(thin(f.begin(), `{"id":"d","email":"e@x.be"}`))
	f.want("what a thin list adds, and all that it leaves out", row(), "7 e@x.be"+stands[1:])
	f.apply(get(f.begin(), `{"id":"d","name":"n","updated_at":"2026-01-02T00:00:00Z","current_stage_id":"s2"}`))
	f.want("what a GET leaves out", row(), "n")
	f.want("stages", f.one(`SELECT string_agg(stage_id, ' ' ORDER BY id) FROM dossier_stage_history`), "s1 s2")
	if applied := f.apply(get(f.begin(), `{"id":"d","name":"old","updated_at":"2026-01-01T00:00:00Z"}`)); len(applied.Older) != 1 {
		t.Error("an older updated_at should be refused")
	}
}

func TestRawGoesAndComesBack(t *testing.T) {
	plain := newFixture(t)
	const object = `{"id":"d","name":"a\u0000b","planet":"x"}`
	plain.apply(get(plain.begin(), object))
	plain.apply(get(plain.begin(), `{"id":"e","name":"plain"}`))
	raws := func() string {
		return plain.one(`SELECT string_agg(concat_ws(' ', id, name, _raw, convert_from(_original, 'UTF8')), '; ' ORDER BY id) FROM dossiers`)
	}
	before := raws()
	dropped := plain.under(dropFile)
	plain.want("under raw: drop", raws(), "d a\uFFFDb; e plain")
	if again := dropped.remap(); again != (mirror.Remapped{}) {
		t.Errorf("applied again the mapping changed %+v, want nothing", again)
	}
	if applied := dropped.apply(list(dropped.begin(), object, `{"id":"e","name":"plain"}`)); applied.Changed != 0 {
		t.Errorf("a read that shows nothing new changed %d rows", applied.Changed)
	}
	back := plain.under("dossiers:\n  raw: all\n")
	plain.want("until LeadGrid is read again", raws(), "d a\uFFFDb; e plain")
	back.remap()
	back.apply(list(back.begin(), object, `{"id":"e","name":"plain"}`))
	plain.want("once it has been", raws(), before)
}
