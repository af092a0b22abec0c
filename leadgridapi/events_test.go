package leadgridapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// The rows are those of the table of hostile webhooks that a body decides.
func TestOddEvents(t *testing.T) {
	data := func(value string) string { return `{"id": "evt_1", "data": ` + value + `}` }
	nested := func(n int) string { // n deep, the event's own object included
		return data(strings.Repeat(`[`, n-1) + strings.Repeat(`]`, n-1))
	}
	const fine = ""
	tests := []struct {
		row              int
		name, body, want string // the reason, empty for none
	}{
		{27, "empty", "", "not a JSON object"},
		{27, "blank", " \n", "not a JSON object"},
		{29, "gzip", "\x1f\x8b\x08\x00", "not UTF-8"},
		{30, "Latin-1", data("\"Zo\xeb\""), "not UTF-8"},
		{30, "raw surrogate", data("\"\xed\xa0\x80\""), "not UTF-8"},
		{30, "overlong", data("\"\xc0\x80\""), "not UTF-8"},
		{31, "U+0000", data(`"a\u0000"`), "U+0000 in a string"},
		{31, "U+0000 in a key", data(`{"a\u0000": 1}`), "U+0000 in a string"},
		{31, "raw U+0000", data("\"a\x00\""), "not valid JSON"},
		{31, "high surrogate", data(`"\ud83d"`), "a lone surrogate in a string"},
		{31, "high surrogate, then a letter", data(`"\ud83da"`), "a lone surrogate in a string"},
		{31, "high surrogate, then an escape", data(`"\ud83d\n"`), "a lone surrogate in a string"},
		{31, "two high surrogates", data(`"\ud83d\ud83d"`), "a lone surrogate in a string"},
		{31, "low surrogate", data(`"\uDE00"`), "a lone surrogate in a string"},
		{31, "high surrogate, then beyond the low ones", data(`"\ud83d\ue000"`), "a lone surrogate in a string"},
		{31, "surrogate pair", data(`"\ud83d\uDE00"`), fine},
		{31, "escaped backslash", data(`"\\u0000"`), fine},
		{32, "a key twice", `{"id": "evt_1", "id": "evt_1"}`, "a key comes twice"},
		{32, "ID beside id", `{"ID": "evt_2", "id": "evt_1"}`, "a key comes twice"},
		{32, "escaped", `{"\u0069d": "evt_2", "id": "evt_1"}`, "a key comes twice"},
		{32, "Kelvin sign", data(`{"\u212a": 1, "k": 2}`), "a key comes twice"},
		{32, "long s", data(`{"ſ": 1, "S": 2}`), "a key comes twice"},
		{32, "sigma", data(`{"σ": 1, "ς": 2}`), "a key comes twice"},
		{32, "deep", data(`[{"a": {"b": 1, "c": [], "B": 2}}]`), "a key comes twice"},
		{32, "after an object", data(`{"a": {"b": 1}, "A": 1}`), "a key comes twice"},
		{32, "one of many", data(`{` + strings.Repeat(`"k": 1, `, 40) + `"z": 1}`), "a key comes twice"},
		{32, "the same key elsewhere", data(`{"id": 1, "a": {"id": 1}, "b": [{"id": 1}, {"id": 1}]}`), fine},
		{33, "64 deep", nested(64), fine},
		{33, "65 deep", nested(65), "nested too deep"},
		{33, "a million deep", strings.Repeat(`{"a":`, 1e6), "nested too deep"},
		{34, "1e400", data(`[1e400, -1E-400, 1e+2]`), fine},
		{34, "beyond 2^53", data(`9007199254740993`), fine},
		{34, "1000 digits", data(strings.Repeat("9", 1000)), fine},
		{34, "1001 digits", data(strings.Repeat("9", 1001)), "an absurdly long number"},
		{34, "600 digits and 401 zeros", data(strings.Repeat("9", 600) + "e401"), "an absurdly long number"},
		{34, "huge exponent", data(`1e99999`), "an absurdly long number"},
		{34, "tiny exponent", data(`1e-99999`), "an absurdly long number"},
		{34, "overflowing exponent", data(`1e99999999999999999999`), "an absurdly long number"},
		{35, "byte-order mark", "\xef\xbb\xbf" + data("1"), "begins with a byte-order mark"},
		{35, "trailing bytes", data("1") + " x", "something follows the object"},
		{35, "trailing object", data("1") + "{}", "something follows the object"},
		{35, "blanks around", "\r\n\t " + data("1") + " \n", fine},
		{35, "array", `[{"id": "evt_1"}]`, "not a JSON object"},
		{35, "null", `null`, "not a JSON object"},
		{35, "string", `"id"`, "not a JSON object"},
		{36, "no id", `{"type": "dossier.updated"}`, "no id of 1 to 255 bytes"},
		{36, "a number for id", `{"id": 7}`, "no id of 1 to 255 bytes"},
		{36, "null for id", `{"id": null}`, "no id of 1 to 255 bytes"},
		{36, "empty id", `{"id": ""}`, "no id of 1 to 255 bytes"},
		{36, "only ID", `{"ID": "evt_1"}`, "no id of 1 to 255 bytes"},
		{36, "id of 255 bytes", `{"id": "` + strings.Repeat("x", 255) + `"}`, fine},
		{36, "id of 256 bytes", `{"id": "` + strings.Repeat("é", 128) + `"}`, "no id of 1 to 255 bytes"},
		{36, "id of 10 kB", `{"id": "` + strings.Repeat("x", 10<<10) + `"}`, "no id of 1 to 255 bytes"},
		{37, "unknown type", `{"id": "evt_1", "type": "invoice.paid"}`, fine},
		{37, "type of 256 bytes", `{"id": "evt_1", "type": "` + strings.Repeat("x", 256) + `"}`, "a type of more than 255 bytes"},
		{37, "no type", `{"id": "evt_1"}`, fine},

		{0, "cut short", `{"id": "evt_1", "data": {"id": "d`, "not valid JSON"},
		{0, "cut after a key", `{"id"`, "not valid JSON"},
		{0, "cut in an escape", `{"id": "\u12`, "not valid JSON"},
		{0, "comma at the end", `{"id": "evt_1",}`, "not valid JSON"},
		{0, "comma at an array's end", data(`[1,]`), "not valid JSON"},
		{0, "no colon", `{"id" "evt_1"}`, "not valid JSON"},
		{0, "bare key", `{id: "evt_1"}`, "not valid JSON"},
		{0, "leading zero", data(`01`), "not valid JSON"},
		{0, "lone minus", data(`-`), "not valid JSON"},
		{0, "no fraction", data(`1.`), "not valid JSON"},
		{0, "no exponent", data(`1e`), "not valid JSON"},
		{0, "two signs", data(`1e+-1`), "not valid JSON"},
		{0, "NaN", data(`NaN`), "not valid JSON"},
		{0, "bad escape", data(`"\x"`), "not valid JSON"},
		{0, "bad hex", data(`"\u00g0"`), "not valid JSON"},
		{0, "newline in a string", data("\"\n\""), "not valid JSON"},
		{0, "literals", data(`[true, false, null, {}, [], "", 0, -0.0]`), fine},
		{0, "half a literal", data(`tru`), "not valid JSON"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			event, err := leadgridapi.ParseEvent([]byte(test.body))
			if test.want == fine {
				if err != nil || event.ID == "" {
					t.Errorf("row %d: got %v", test.row, err)
				}
				return
			}
			if !errors.Is(err, leadgridapi.ErrOddEvent) || err.Error() != "leadgrid: odd event: "+test.want {
				t.Errorf("row %d: got %v, want %s", test.row, err, test.want)
			}
		})
	}
}

// An odd event still says what to read, where that can be made out: to leave it unread would leave the mirror behind.
func TestPromise12_OddEventsSayWhatToRead(t *testing.T) {
	event := func(start, data string) string {
		return `{` + start + `"type": "dossier.stage_changed", "data": {"id": "d_1", "stage_id": "s_1", ` + data + `}}`
	}
	const id = `"id": "evt_1", `
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, test := range []struct{ name, body, dossier, stage string }{
		{"two fields that differ in case", event(id, `"custom": {"Budget": 1, "budget": 2}`), "d_1", ""},
		{"a key twice", event(id, `"a": [{"b": 1, "b": 2}]`), "d_1", ""},
		{"ID beside id", event(id, `"ID": "d_2"`), "d_1", ""},
		{"nested deep", event(id, `"a": `+deep), "d_1", ""},
		{"an absurd number", event(id, `"a": 1e99999`), "d_1", ""},
		{"no id", event("", `"a": 1`), "d_1", "s_1"},
		{"a number for an id", event(`"id": 7, `, `"a": 1`), "d_1", "s_1"},
		{"cut short", event(id, `"a": 1`)[:70], "", ""},
		{"followed by something", event(id, `"a": 1`) + "x", "", ""},
		{"an array", `[` + event(id, `"a": 1`) + `]`, "", ""},
	} {
		e, err := leadgridapi.ParseEvent([]byte(test.body))
		if !errors.Is(err, leadgridapi.ErrOddEvent) || e.ID != "" || e.DossierID != test.dossier || e.StageID != test.stage {
			t.Errorf("%s: got %+v, %v", test.name, e, err)
		}
	}
}

// Looking for doubled keys must not take a time that grows with their square. A
// machine would have to be a hundred times slower than ours to fail here.
func TestManyKeys(t *testing.T) {
	start := time.Now()
	if _, err := leadgridapi.ParseEvent(hostileEvent()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestParseEvent(t *testing.T) {
	body := []byte(`{"data" : {"id":"d\/1", "n": 1.50 } , "type":"dossier.updated","created_at":"2026-04-15T10:00:00.5+02:00","id":"evt\u005f1","new":[]}`)
	e, err := leadgridapi.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	if e.ID != "evt_1" || e.Type != "dossier.updated" || e.DossierID != "d/1" || string(e.Data) != `{"id":"d\/1", "n": 1.50 }` {
		t.Errorf("got %+v", e)
	}
	if !e.CreatedAt.Equal(time.Date(2026, 4, 15, 8, 0, 0, 5e8, time.UTC)) {
		t.Errorf("created at %v", e.CreatedAt)
	}
	for _, odd := range []string{`"yesterday"`, `1713178230`, `null`, `{}`} {
		e, err := leadgridapi.ParseEvent([]byte(`{"id": "evt_1", "created_at": ` + odd + `}`))
		if err != nil || !e.CreatedAt.IsZero() {
			t.Errorf("created_at %s: got %v, %v", odd, e.CreatedAt, err)
		}
	}
}

func TestEventIDs(t *testing.T) {
	longest := strings.Repeat("x", 2000)
	tests := []struct {
		kind, data, dossier, stage string
	}{
		{"dossier.updated", `{"id": "d"}`, "d", ""},
		{"dossier.updated", `{"dossier": {"id": "d"}, "id": "x"}`, "d", ""},
		{"dossier.updated", `{"id": "x", "dossier": {"id": "x"}, "dossier_id": "d"}`, "d", ""},
		{"dossier.updated", `{"dossier_id": null, "dossier": {"id": ""}, "id": "d"}`, "d", ""},
		{"dossier.updated", `{"dossier_id": [], "dossier": [{"id": "x"}], "id": "d"}`, "d", ""},
		{"dossier.updated", `{"id": 17 }`, "17", ""},
		{"dossier.updated", `{"id":12345678901234567890}`, "12345678901234567890", ""},
		{"dossier.updated", `{"id": "` + longest + `"}`, longest, ""},
		{"dossier.updated", `{"id": "` + longest + `x"}`, "", ""},
		{"dossier.updated", `{"ID": "x"}`, "", ""},
		{"dossier.updated", `{"id": "d", "current_stage_id": "s"}`, "d", ""},
		{"dossier.updated", `{"a": {"dossier_id": "x"}}`, "", ""},
		{"dossier.updated", `["x"]`, "", ""},
		{"dossier.updated", `null`, "", ""},
		{"dossier.invented", `{"id": "d"}`, "d", ""},
		{"note.created", `{"id": "n", "dossier_id": "d"}`, "d", ""},
		{"note.created", `{"id": "n", "dossier": {"id": "d"}}`, "d", ""},
		{"note.created", `{"note": {"id": "n", "dossier_id": "d"}}`, "d", ""},
		{"note.created", `{"id": "n"}`, "", ""},
		{"invoice.paid", `{"id": "i"}`, "", ""},
		{"invoice.paid", `{"id": "i", "dossier_id": "d"}`, "d", ""},
		{"invoice.paid", `{"id": "i", "dossier": {"id": "d"}}`, "d", ""},
		{"invoice.paid", `{"note": {"dossier_id": "x"}}`, "", ""},
		{"dossier.stage_changed", `{"id": "d", "current_stage_id": "s", "stage_id": "x"}`, "d", "s"},
		{"dossier.stage_changed", `{"id": "d", "stage_id": "s", "to_stage_id": "x"}`, "d", "s"},
		{"dossier.stage_changed", `{"id": "d", "to_stage_id": "s", "from_stage_id": "x"}`, "d", "s"},
		{"dossier.stage_changed", `{"id": "d", "new_stage_id": "s", "old_stage_id": "x"}`, "d", "s"},
		{"dossier.stage_changed", `{"id": "d", "stage": {"id": "s"}, "to_stage": {"id": "x"}}`, "d", "s"},
		{"dossier.stage_changed", `{"id": "d", "to_stage": {"id": "s"}, "from_stage": {"id": "x"}}`, "d", "s"},
		{"dossier.stage_changed", `{"dossier": {"id": "d", "current_stage_id": "s"}}`, "d", "s"},
		{"dossier.stage_changed", `{"id": "d", "current_stage_id": "", "stage_id": 7}`, "d", "7"},
		{"dossier.stage_changed", `{"id": "d", "stage": "Intake"}`, "d", ""},
	}
	for _, test := range tests {
		t.Run(test.kind+" "+test.data[:min(len(test.data), 100)], func(t *testing.T) {
			e, err := leadgridapi.ParseEvent([]byte(`{"id": "evt_1", "type": "` + test.kind + `", "data": ` + test.data + `}`))
			if err != nil || e.DossierID != test.dossier || e.StageID != test.stage {
				t.Errorf("got dossier %q, stage %q, %v", e.DossierID, e.StageID, err)
			}
		})
	}
}

// Whatever the bytes, there is an event or ErrOddEvent; and where there is an
// event, encoding/json sees the same one.
func FuzzParseEvent(f *testing.F) {
	f.Add(hookBody)
	f.Add(eventOfSize(600))
	f.Add([]byte(`{"id":"e","type":"note.created","created_at":"2026-04-15T10:00:00Z","data":{"note":{"dossier_id":-1.5e3}}}`))
	f.Add([]byte(`{ "id" : "\ud83d\ude00" , "data" : [ true , { "k" : null } , "\"" ] } `))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := leadgridapi.ParseEvent(body)
		if err != nil {
			if !errors.Is(err, leadgridapi.ErrOddEvent) {
				t.Errorf("another error: %v", err)
			}
			if strings.HasSuffix(err.Error(), "not valid JSON") && json.Valid(body) {
				t.Errorf("encoding/json finds it valid: %q", body)
			}
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		var id string
		if err := json.Unmarshal(want["id"], &id); err != nil || id != e.ID {
			t.Errorf("id %q, but encoding/json has %q, %v", e.ID, id, err)
		}
		if string(e.Data) != string(want["data"]) {
			t.Errorf("data %q, but encoding/json has %q", e.Data, want["data"])
		}
	})
}

// eventOfSize returns an event of about n bytes.
func eventOfSize(n int) []byte {
	const head = `{"id":"evt_01HV8Q2Z","type":"dossier.stage_changed","created_at":"2026-04-15T10:00:00Z","data":{"id":"7b0e3c51-9d0c-4d55-9a53-9c1a3f6f6a01",` +
		`"type":"sales","name":"Renée van den Berg","email":"r.vandenberg@example.com","company":"Acme BV","role":"CFO","status":"active",` +
		`"flow_id":"f_1","current_stage_id":"s_2","assigned_to":null,"deal_size":12500.50,"deal_currency":"EUR","intake_notes":"`
	const tail = `","updated_at":"2026-04-15T10:00:00Z"}}`
	return []byte(head + strings.Repeat("x", max(0, n-len(head)-len(tail))) + tail)
}

func BenchmarkParseEvent(b *testing.B) {
	body := eventOfSize(600)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := leadgridapi.ParseEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHostileEvent(b *testing.B) {
	body := hostileEvent()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := leadgridapi.ParseEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}

// hostileEvent returns an event of one MiB with as many keys as fit, each of which
// has to be folded.
func hostileEvent() []byte {
	body := []byte(`{"id": "evt_1", "data": {"a": 1`)
	for i := 0; len(body) < 1<<20-32; i++ {
		body = fmt.Appendf(body, `,"É%d":1`, i)
	}
	return append(body, `}}`...)
}
