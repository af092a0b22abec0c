package mirror

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// merge adds what a read told to what is known. A key the read carries replaces the known value. A key it leaves out
// says nothing, unless the read was whole and its endpoint has shown that key before: then a documented field is null
// and any other is gone.
func merge(known, told mappings.Object, whole bool, shape shape, documented func(string) bool) mappings.Object {
	merged := make(mappings.Object, len(known)+len(told))
	for key, value := range known {
		if _, ok := told[key]; !ok && whole && shape.has(key) {
			if documented(key) {
				merged[key] = json.RawMessage("null")
			}
			continue
		}
		merged[key] = value
	}
	maps.Copy(merged, told)
	return merged
}

// encode writes the object as JSON with its keys sorted and its values as they are.
func encode(object mappings.Object) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, key := range sortedKeys(object) {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(&b, key)
		b.WriteByte(':')
		b.Write(object[key])
	}
	b.WriteByte('}')
	return b.Bytes()
}

// hash is the same for two objects that say the same: key order, escapes, the way a number or a documented time is
// written and nulls that are spelled out or left out make no difference. Where _raw is not kept, what the columns cannot
// hold makes none either: it must be the same for an object and for what can be rebuilt of it.
func (t *table) hash(object mappings.Object) int64 {
	if t.mapping.Raw == mappings.RawDrop {
		return t.hashColumns(object)
	}
	var b bytes.Buffer
	for _, key := range sortedKeys(object) {
		value := object[key]
		if isNull(value) {
			continue
		}
		writeString(&b, key)
		if t.times[key] {
			if at := mappings.TimestampTZ.Convert(value); at != nil {
				b.WriteString(*at)
				continue
			}
		}
		canonical(&b, value)
	}
	return int64(xxhash.Sum64(b.Bytes()))
}

func (t *table) hashColumns(object mappings.Object) int64 {
	var b bytes.Buffer
	for i, value := range t.mapping.Row(object) {
		if value == nil {
			continue
		}
		writeString(&b, t.mapping.Columns[i].Name)
		switch t.mapping.Columns[i].Type {
		case mappings.Numeric, mappings.JSONB:
			canonical(&b, json.RawMessage(*value))
		default:
			writeString(&b, *value)
		}
	}
	return int64(xxhash.Sum64(b.Bytes()))
}

func canonical(b *bytes.Buffer, text json.RawMessage) {
	text = bytes.TrimSpace(text)
	switch text[0] {
	case '"':
		if bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) && !bytes.ContainsAny(text, "\u2028\u2029") {
			b.Write(text) // as writeString would
			return
		}
	case '{', '[':
	case 't', 'f', 'n':
		b.Write(text)
		return
	default:
		writeNumber(b, string(text))
		return
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		b.Write(text)
		return
	}
	writeValue(b, value)
}

func writeValue(b *bytes.Buffer, value any) {
	switch value := value.(type) {
	case string:
		writeString(b, value)
	case json.Number:
		writeNumber(b, value.String())
	case []any:
		b.WriteByte('[')
		for _, element := range value {
			writeValue(b, element)
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for _, key := range sortedKeys(value) {
			if value[key] == nil {
				continue
			}
			writeString(b, key)
			b.WriteByte(':')
			writeValue(b, value[key])
			b.WriteByte(',')
		}
		b.WriteByte('}')
	case bool:
		if value {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case nil:
		b.WriteString("null")
	}
}

// writeString escapes only what JSON must escape: HTML's characters stay as they are.
func writeString(b *bytes.Buffer, s string) {
	if isPlain(s) {
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteByte('"')
		return
	}
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string always encodes
	b.Truncate(b.Len() - 1)
}

// isPlain reports whether the string stands in JSON as it is, as nearly every key does.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// writeNumber writes 1, 1.0 and 10e-1 alike.
func writeNumber(b *bytes.Buffer, s string) {
	if !strings.ContainsAny(s, ".eE") {
		b.WriteString(s)
		return
	}
	if len(s) > 100 || strings.ContainsAny(s, "eE") && len(s) > 20 {
		b.WriteString(s) // not worth the arithmetic: it can only make an unchanged row look changed once
		return
	}
	rat, ok := new(big.Rat).SetString(boundedExponent(s))
	if !ok {
		b.WriteString(s)
		return
	}
	b.WriteString(rat.RatString())
}

// boundedExponent keeps big.Rat from building a number of a billion digits: such a text is its own canonical form.
func boundedExponent(s string) string {
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(strings.TrimLeft(s[i+1:], "+-0")) > 3 {
		return ""
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func isNull(value json.RawMessage) bool {
	return len(value) == 0 || string(bytes.TrimSpace(value)) == "null"
}

// text gives a string field, empty where it is absent or no string.
func text(object mappings.Object, field string) (s string) {
	if err := json.Unmarshal(object[field], &s); err != nil {
		return ""
	}
	return s
}

// isOlder reports whether the object says it was last updated before the known one says. Where either says nothing,
// nothing is known; equal proves nothing.
func isOlder(told, known mappings.Object) bool {
	toldAt, err := time.Parse(time.RFC3339Nano, text(told, "updated_at"))
	if err != nil {
		return false
	}
	knownAt, err := time.Parse(time.RFC3339Nano, text(known, "updated_at"))
	return err == nil && toldAt.Before(knownAt)
}

func encodeString(s string) []byte {
	var b bytes.Buffer
	writeString(&b, s)
	return b.Bytes()
}
