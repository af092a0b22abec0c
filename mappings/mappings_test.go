package mappings

import (
	"encoding/json"
	"testing"
)

func TestText(t *testing.T) {
	const null = "<null>"
	for _, tc := range []struct {
		name  string
		typ   Type
		value string
		want  string
	}{
		{"text", Text, `"Ana"`, "Ana"},
		{"text with NUL", Text, `"a\u0000b"`, "a\uFFFDb"},
		{"text with lone surrogate", Text, `"a\ud800b"`, "a\uFFFDb"},
		{"number as text", Text, `7`, "7"},
		{"object as text", Text, `{"a":1}`, `{"a":1}`},
		{"null", Text, `null`, null},
		{"absent", Text, ``, null},
		{"numeric exact", Numeric, `12345678901234567890.123456789`, "12345678901234567890.123456789"},
		{"numeric from string", Numeric, `"45000.50"`, "45000.50"},
		{"numeric exponent", Numeric, `1e400`, "1e400"},
		{"numeric absurd exponent", Numeric, `1e400000`, null},
		{"numeric rubbish", Numeric, `"12abc"`, null},
		{"numeric NaN", Numeric, `"NaN"`, null},
		{"boolean", Boolean, `true`, "true"},
		{"boolean odd", Boolean, `"yes"`, null},
		{"array", TextArray, `["client","a \"b\" \\c", null]`, `{"client","a \"b\" \\c",NULL}`},
		{"array of one", TextArray, `"client"`, `{"client"}`},
		{"array empty", TextArray, `[]`, `{}`},
		{"time", TimestampTZ, `"2026-04-15T12:33:50Z"`, "2026-04-15 12:33:50Z"},
		{"time in lower case", TimestampTZ, `"2026-04-15t12:33:50z"`, "2026-04-15 12:33:50Z"},
		{"time with offset and fraction", TimestampTZ, `"2026-04-15T14:33:50.123456789+02:00"`, "2026-04-15 12:33:50.123457Z"},
		{"time rubbish", TimestampTZ, `"yesterday"`, null},
		{"time number", TimestampTZ, `1713178230`, null},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := null
			if s := tc.typ.Convert(json.RawMessage(tc.value)); s != nil {
				got = *s
			}
			if got != tc.want {
				t.Errorf("%s of %s = %s, want %s", tc.typ, tc.value, got, tc.want)
			}
		})
	}
}

func TestStorable(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		same       bool
	}{
		{`{"a":"b\n\u00e9\ud83d\ude00","n":1.50}`, `{"a":"b\n\u00e9\ud83d\ude00","n":1.50}`, true},
		{`{"a":"x\u0000y"}`, `{"a":"x` + "\uFFFD" + `y"}`, false},
		{`{"a":"\ud800"}`, `{"a":"` + "\uFFFD" + `"}`, false},
		{`{"a":"\udc00\ud800"}`, `{"a":"` + "\uFFFD\uFFFD" + `"}`, false},
		{`{"a":"\\u0000"}`, `{"a":"\\u0000"}`, true},
		{`{"n":1e999999}`, `{"n":"1e999999"}`, false},
		{"{\"a\":\"\xff\"}", `{"a":"` + "\uFFFD" + `"}`, false},
	} {
		got, same := Storable(json.RawMessage(tc.text))
		if string(got) != tc.want || same != tc.same {
			t.Errorf("Storable(%q) = %s, %v, want %s, %v", tc.text, got, same, tc.want, tc.same)
		}
	}
}

func TestIDRefusesWhatCannotIdentify(t *testing.T) {
	links := Default().Table(Links)
	for text, want := range map[string]bool{
		`{"dossier_id":"d","contact_id":"c"}`: true,
		`{"dossier_id":"d","contact_id":7}`:   true,
		`{"dossier_id":"d"}`:                  false,
		`{"dossier_id":"","contact_id":"c"}`:  false,
	} {
		var object Object
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			t.Fatal(err)
		}
		if _, ok := links.ID(object); ok != want {
			t.Errorf("ID(%s) ok = %v, want %v", text, ok, want)
		}
	}
}

func TestConvertLeavesTheValueAlone(t *testing.T) {
	value := json.RawMessage(`["candidate", "client"]`)
	TextArray.Convert(value)
	if got := string(value); got != `["candidate", "client"]` {
		t.Errorf("the value is now %s", got)
	}
}
