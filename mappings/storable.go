package mappings

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Storable returns the JSON text in a form that jsonb accepts, and whether that is the same value. It is not if U+FFFD had to
// replace U+0000, a lone surrogate or broken UTF-8, or a string a number that no numeric can hold.
func Storable(text json.RawMessage) (fits json.RawMessage, same bool) {
	if json.Valid(text) {
		return StorableJSON(text)
	}
	return reworded(text), false
}

// StorableJSON is Storable for text that is known to be valid JSON.
func StorableJSON(text json.RawMessage) (fits json.RawMessage, same bool) {
	if storableAsIs(text) {
		return text, true
	}
	return reworded(text), false
}

func reworded(text json.RawMessage) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		// Not JSON at all: keep it as a string.
		value = string(text)
	}
	fits, err := json.Marshal(storable(value))
	if err != nil {
		return json.RawMessage("null")
	}
	return fits
}

// storableAsIs is a cheap test that nearly every object passes: valid UTF-8, no troublesome \u escape, no long number.
func storableAsIs(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			end, ok := plainString(text, i+1)
			if !ok {
				return false
			}
			i = end
		case c >= '0' && c <= '9':
			start := i
			for i+1 < len(text) && strings.IndexByte("0123456789+-.eE", text[i+1]) >= 0 {
				i++
			}
			if !fitsNumeric(string(text[start : i+1])) {
				return false
			}
		}
	}
	return true
}

// plainString walks over a valid JSON string, from after its opening quote to the closing one. ok is false at a \u escape that
// is NUL or half of a surrogate pair without the other half.
func plainString(text []byte, i int) (end int, ok bool) {
	for ; text[i] != '"'; i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		switch r := hex4(text[i+1:]); {
		case r == 0, r >= 0xDC00 && r < 0xE000:
			return i, false
		case r >= 0xD800 && r < 0xDC00:
			rest := text[i+5:]
			if !bytes.HasPrefix(rest, []byte(`\u`)) {
				return i, false
			}
			if low := hex4(rest[2:]); low < 0xDC00 || low >= 0xE000 {
				return i, false
			}
			i += 6
		}
		i += 4
	}
	return i, true
}

func hex4(text []byte) uint64 {
	r, err := strconv.ParseUint(string(text[:4]), 16, 32)
	if err != nil {
		return 0
	}
	return r
}

func storable(value any) any {
	switch value := value.(type) {
	case string:
		return clean(value)
	case json.Number:
		if !fitsNumeric(value.String()) {
			return value.String()
		}
	case []any:
		for i := range value {
			value[i] = storable(value[i])
		}
	case map[string]any:
		for key, element := range value {
			fixed := clean(key)
			if fixed != key {
				delete(value, key)
			}
			value[fixed] = storable(element)
		}
	}
	return value
}
