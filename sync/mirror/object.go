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

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
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
	return t.hashFields(fieldsOf(object), new(bytes.Buffer))
}

// hashFields is hash, in a buffer that may be used again.
func (t *table) hashFields(object fields, b *bytes.Buffer) int64 {
	if t.mapping.Raw == mappings.RawDrop {
		return t.hashColumns(object.object())
	}
	b.Reset()
	for _, f := range object {
		if isNull(f.value) {
			continue
		}
		writeKey(b, f.key)
		if t.isTime(f.key) {
			if at, ok := mappings.Time(f.value); ok {
				b.Write(mappings.AppendTime(b.AvailableBuffer(), at))
				continue
			}
		}
		canonical(b, f.value)
	}
	return int64(xxhash.Sum64(b.Bytes()))
}

func (t *table) isTime(field []byte) bool { return slices.Contains(t.times, string(field)) }

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

// deepest is how deep canonical goes by itself: what lies deeper is left to encoding/json, whose time is linear in its depth.
const deepest = 8

// canonical writes a JSON value as every text that says the same is written.
func canonical(b *bytes.Buffer, text []byte) { canonicalAt(b, text, 0) }

func canonicalAt(b *bytes.Buffer, text []byte, depth int) {
	text = bytes.TrimSpace(text)
	switch text[0] {
	case '"':
		if meansItself(text) {
			b.Write(text) // as writeString would
			return
		}
	case '[':
		if depth < deepest {
			b.WriteByte('[')
			for element := range leadgridapi.Elements(text) {
				canonicalAt(b, element, depth+1)
				b.WriteByte(',')
			}
			b.WriteByte(']')
			return
		}
	case '{':
		if depth < deepest {
			object, _ := fieldsIn(text)
			b.WriteByte('{')
			for _, f := range object {
				if isNull(f.value) {
					continue
				}
				writeKey(b, f.key)
				b.WriteByte(':')
				canonicalAt(b, f.value, depth+1)
				b.WriteByte(',')
			}
			b.WriteByte('}')
			return
		}
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

// meansItself reports whether a string stands in JSON as writeString would write it.
func meansItself(quoted []byte) bool {
	if bytes.IndexByte(quoted, '\\') >= 0 || !utf8.Valid(quoted) {
		return false
	}
	// U+2028 and U+2029 begin with that byte.
	return bytes.IndexByte(quoted, 0xE2) < 0 || !bytes.ContainsAny(quoted, "\u2028\u2029")
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

func writeKey(b *bytes.Buffer, key []byte) {
	if !isPlain(key) {
		writeString(b, string(key))
		return
	}
	b.WriteByte('"')
	b.Write(key)
	b.WriteByte('"')
}

// isPlain reports whether the string stands in JSON as it is, as nearly every key does.
func isPlain[T string | []byte](s T) bool {
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

func isNull(value []byte) bool {
	return len(value) == 0 || string(bytes.TrimSpace(value)) == "null"
}

// text gives a string field, empty where it is absent or no string.
func text(object mappings.Object, field string) string { return stringIn(object[field]) }

// stringIn gives what a string says, and nothing for any other value.
func stringIn(value []byte) (s string) {
	if len(value) == 0 || value[0] != '"' {
		return ""
	}
	s, _ = mappings.TextOf(value)
	return s
}

// isOlder reports whether the object says it was last updated before the known one says. Where either says nothing,
// nothing is known; equal proves nothing.
func isOlder(told, known mappings.Object) bool {
	toldAt, err := mappings.ParseTime(text(told, "updated_at"))
	if err != nil {
		return false
	}
	knownAt, err := mappings.ParseTime(text(known, "updated_at"))
	return err == nil && toldAt.Before(knownAt)
}

// uncut gives what a list told with the known times in place of those that it tells with fewer digits, as it may where a GET tells
// all. That is right for times that LeadGrid sets, and that nobody changes to just that.
func uncut(told, known mappings.Object) mappings.Object {
	for _, field := range [...]string{"created_at", "updated_at"} {
		if isCut(text(told, field), text(known, field)) {
			told = maps.Clone(told)
			told[field] = known[field]
		}
	}
	return told
}

// isCut reports whether told is the known time without the digits behind the second, or behind the thousandth or millionth of it.
func isCut(told, known string) bool {
	toldAt, err := mappings.ParseTime(told)
	if err != nil {
		return false
	}
	knownAt, err := mappings.ParseTime(known)
	if err != nil || !toldAt.Before(knownAt) {
		return false
	}
	_, fraction, _ := strings.Cut(told, ".")
	switch strings.IndexFunc(fraction+"Z", func(r rune) bool { return r < '0' || r > '9' }) {
	case 0:
		return knownAt.Truncate(time.Second).Equal(toldAt)
	case 3:
		return knownAt.Truncate(time.Millisecond).Equal(toldAt)
	case 6:
		return knownAt.Truncate(time.Microsecond).Equal(toldAt)
	}
	return false
}

func encodeString(s string) []byte {
	var b bytes.Buffer
	writeString(&b, s)
	return b.Bytes()
}
