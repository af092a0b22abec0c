package mappings

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Type is a column's Postgres type.
type Type string

// The types a column can have.
const (
	Text        Type = "text"
	TextArray   Type = "text[]"
	Numeric     Type = "numeric"
	Boolean     Type = "boolean"
	TimestampTZ Type = "timestamptz"
	JSONB       Type = "jsonb"
)

var types = []Type{Text, TextArray, Numeric, Boolean, TimestampTZ, JSONB}

func (t Type) valid() bool { return slices.Contains(types, t) }

// Convert turns a JSON value into Postgres's text form of the type. What does not fit becomes null, never an error: the
// row must land, and _raw has the value.
func (t Type) Convert(value json.RawMessage) *string {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || string(value) == "null" {
		return nil
	}
	switch t {
	case Text:
		return textOf(value)
	case TextArray:
		return arrayOf(value)
	case Numeric:
		return numericOf(value)
	case Boolean:
		if s := string(value); s == "true" || s == "false" {
			return &s
		}
	case TimestampTZ:
		return timeOf(value)
	case JSONB:
		if fits, ok := Storable(value); ok {
			s := string(fits)
			return &s
		}
	}
	return nil
}

// textOf takes a string as it is and everything else as its JSON text, with U+0000, which no Postgres text can hold,
// replaced by U+FFFD.
func textOf(value json.RawMessage) *string {
	s := string(value)
	if value[0] == '"' {
		if err := json.Unmarshal(value, &s); err != nil {
			return nil
		}
	}
	s = clean(s)
	return &s
}

func clean(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// arrayOf writes Postgres's array literal; a lone string is an array of one.
func arrayOf(value json.RawMessage) *string {
	var elements []json.RawMessage
	if value[0] != '[' {
		elements = []json.RawMessage{value}
	} else if err := json.Unmarshal(value, &elements); err != nil {
		return nil
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, element := range elements {
		if i > 0 {
			b.WriteByte(',')
		}
		s := Text.Convert(element)
		if s == nil {
			b.WriteString("NULL")
			continue
		}
		b.WriteByte('"')
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(*s))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	s := b.String()
	return &s
}

// numericOf takes a number, or a string that holds one, digit for digit.
func numericOf(value json.RawMessage) *string {
	s := string(value)
	if value[0] == '"' {
		if err := json.Unmarshal(value, &s); err != nil {
			return nil
		}
		s = strings.TrimSpace(s)
	}
	if !isNumber(s) || !fitsNumeric(s) {
		return nil
	}
	return &s
}

// isNumber reports whether s is a number in JSON's grammar.
func isNumber(s string) bool {
	if s == "" || (s[0] != '-' && (s[0] < '0' || s[0] > '9')) {
		return false
	}
	return json.Valid([]byte(s))
}

// fitsNumeric reports whether Postgres's numeric, and so jsonb, can hold the number: at most 131,072 digits before the
// point and 16,383 after it. We stop well before either.
func fitsNumeric(s string) bool {
	const most = 1000
	if len(s) > most {
		return false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exponent, err := strconv.Atoi(s[i+1:])
		return err == nil && exponent <= most && exponent >= -most
	}
	return true
}

// timeOf takes RFC 3339 with any fraction or offset, to the microsecond, as Postgres does; years 1 to 9999 are enough.
func timeOf(value json.RawMessage) *string {
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s))
	if err != nil || at.UTC().Year() < 1 || at.UTC().Year() > 9999 {
		return nil
	}
	s = at.UTC().Round(time.Microsecond).Format("2006-01-02 15:04:05.999999Z07:00")
	return &s
}
