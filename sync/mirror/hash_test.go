package mirror

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// decoded is what canonical must write: the value as encoding/json reads it, written anew.
func decoded(t *rapid.T, text string) string {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%s is not JSON: %v", text, err)
	}
	var b bytes.Buffer
	writeValue(&b, value)
	return b.String()
}

// drawJSON makes up a JSON text: odd spellings, keys that come twice, blanks.
func drawJSON(t *rapid.T, depth int) string {
	kinds := []string{"null", "true", "number", "string", "array", "object"}
	if depth > deepest+2 {
		kinds = kinds[:4]
	}
	strings := rapid.SampledFrom([]string{
		`""`, `"a"`, `"é"`, `"é"`, `"a\/b"`, "\"\u2028\"", `"\u2028"`, "\"\xff\"", `"\ud800"`, `"<&>"`, `"\n"`, `"null"`,
	})
	blank := rapid.SampledFrom([]string{"", "", " ", "\n"})
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "true":
		return "true"
	case "number":
		return rapid.SampledFrom([]string{"0", "-1", "1.0", "1", "10e-1", "1E400", "12345678901234567890.10"}).Draw(t, "number")
	case "string":
		return strings.Draw(t, "string")
	case "array":
		text := "["
		for i := range rapid.IntRange(0, 3).Draw(t, "elements") {
			if i > 0 {
				text += ","
			}
			text += blank.Draw(t, "blank") + drawJSON(t, depth+1) + blank.Draw(t, "blank")
		}
		return text + "]"
	case "object":
		text := "{"
		for i := range rapid.IntRange(0, 3).Draw(t, "fields") {
			if i > 0 {
				text += ","
			}
			text += blank.Draw(t, "blank") + strings.Draw(t, "key") + ":" + blank.Draw(t, "blank") + drawJSON(t, depth+1)
		}
		return text + blank.Draw(t, "blank") + "}"
	}
	return "null"
}

func TestCanonicalIsWhatDecodingSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawJSON(t, 0)
		var b bytes.Buffer
		canonical(&b, []byte(text))
		if want := decoded(t, text); b.String() != want {
			t.Errorf("%s becomes %s, want %s", text, b.String(), want)
		}
	})
}

// A hash is kept with each row: one that changed would have every row written again.
func TestHashStaysWhatItWas(t *testing.T) {
	contacts := newTable(mappings.Default().Table(mappings.Contacts), 0)
	for text, want := range map[string]int64{
		`{"id":"c","full_name":"Zoë","kind":["client","partner"],"created_at":"2026-01-02T03:04:05.600Z","dossier_count":2.0,"pool":"in_pool","x":{"b":null,"a":[1]}}`:                      6331626116038549864,
		`{"x":{"a":[1.0]},"pool":"in_pool","dossier_count":2,"created_at":"2026-01-02T04:04:05.6+01:00","kind":["client","partner"],"full_name":"Zo\u00eb","email":null,"id":"b","id":"c"}`: 6331626116038549864,
	} {
		all, _ := fieldsIn([]byte(text))
		var b bytes.Buffer
		if got := contacts.hashFields(all, &b); got != want {
			t.Errorf("the hash of %s is %d, want %d", text, got, want)
		}
		object, _ := mappings.ParseObject([]byte(text))
		if got := contacts.hash(object); got != want {
			t.Errorf("the hash of %s, taken apart, is %d, want %d", text, got, want)
		}
	}
}

func TestASplitterForgetsTheObjectBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s splitter
		for range 4 {
			text := "{"
			for i := range rapid.IntRange(0, 4).Draw(t, "fields") {
				if i > 0 {
					text += ","
				}
				text += rapid.SampledFrom([]string{`"a"`, `"b"`, `"\u0061"`, `"id"`}).Draw(t, "key") + ":" + rapid.StringMatching(`[0-9]`).Draw(t, "value")
			}
			text += "}"
			got, _ := s.split([]byte(text))
			if want, _ := mappings.ParseObject([]byte(text)); !reflect.DeepEqual(got.object(), want) || len(got) != len(want) {
				t.Fatalf("%s gave %s, want %s", text, encode(got.object()), encode(want))
			}
			if !slices.IsSortedFunc(got, func(a, b field) int { return bytes.Compare(a.key, b.key) }) {
				t.Fatalf("%s is not sorted: %s", text, got)
			}
		}
	})
}

// What takes pages apart is used again: each page shows its own keys, as a table that has seen no other page finds them.
func TestAPageShowsItsOwnKeys(t *testing.T) {
	used := newTable(mappings.Default().Table(mappings.Contacts), 0)
	rapid.Check(t, func(t *rapid.T) {
		var page []json.RawMessage
		for i := range rapid.IntRange(1, 4).Draw(t, "objects") {
			text := `{"id":"` + string(rune('a'+i)) + `"`
			for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"email", "city", "planet"}), 0, 3, rapid.ID).Draw(t, "keys") {
				text += `,"` + key + `":` + rapid.SampledFrom([]string{"null", "1"}).Draw(t, "value")
			}
			page = append(page, json.RawMessage(text+"}"))
		}
		sightings, got, _ := used.parse(page)
		want, keys, _ := newTable(used.mapping, 0).parse(page)
		if !reflect.DeepEqual(got, keys) {
			t.Fatalf("%s shows %v, want %v", page, got, keys)
		}
		for i, s := range sightings {
			if s.hash != want[i].hash || !slices.Equal(s.key, want[i].key) {
				t.Fatalf("%s gave %v, want %v", s.body, s, want[i])
			}
		}
	})
}
