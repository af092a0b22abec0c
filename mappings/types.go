package mappings

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
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

// Convert turns a JSON value into Postgres's text form of the type. A value that does not fit becomes null, never an error: the
// row must be stored, and _raw keeps the value.
func (t Type) Convert(value json.RawMessage) *string {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || string(value) == "null" {
		return nil
	}
	switch t {
	case Text:
		if s, ok := TextOf(value); ok {
			return &s
		}
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

// TextOf returns what Text.Convert does: a string as it is, and the JSON text of anything else. U+FFFD replaces U+0000, which no
// Postgres text can hold. ok is false for null.
func TextOf(value json.RawMessage) (s string, ok bool) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || string(value) == "null" {
		return "", false
	}
	if s, ok = unquoted(value); !ok {
		return "", false
	}
	return clean(s), true
}

// AppendText appends what Text.Convert returns; ok is false if that is null.
func AppendText(b []byte, value json.RawMessage) (text []byte, ok bool) {
	if n := len(value) - 1; n > 0 && value[0] == '"' && value[n] == '"' && isPlain(value[1:n]) {
		return append(b, value[1:n]...), true
	}
	s := Text.Convert(value)
	if s == nil {
		return b, false
	}
	return append(b, *s...), true
}

// unquoted returns a string's value, and the JSON text of anything else.
func unquoted(value json.RawMessage) (s string, ok bool) {
	if value[0] != '"' {
		return string(value), true
	}
	if n := len(value) - 1; n > 0 && value[n] == '"' && isPlain(value[1:n]) {
		return string(value[1:n]), true
	}
	err := json.Unmarshal(value, &s)
	return s, err == nil
}

func isPlain(inside []byte) bool {
	for _, b := range inside {
		if b < ' ' || b == '"' || b == '\\' {
			return false
		}
	}
	return utf8.Valid(inside)
}

func clean(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

var escapeElement = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// Texts returns the elements that TextArray.Convert writes, with nil for a null element; ok is false if that returns null. A
// single value counts as an array of one.
func Texts(value json.RawMessage) (texts []*string, ok bool) {
	value = bytes.TrimSpace(value)
	switch {
	case len(value) == 0 || string(value) == "null":
		return nil, false
	case value[0] != '[':
		return []*string{Text.Convert(value)}, true
	case !json.Valid(value):
		return nil, false
	}
	texts = make([]*string, 0, 4)
	for element := range leadgridapi.Elements(value) {
		texts = append(texts, Text.Convert(element))
	}
	return texts, true
}

// arrayOf returns a Postgres array literal.
func arrayOf(value json.RawMessage) *string {
	texts, ok := Texts(value)
	if !ok {
		return nil
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		if s == nil {
			b.WriteString("NULL")
			continue
		}
		b.WriteByte('"')
		b.WriteString(escapeElement.Replace(*s))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	s := b.String()
	return &s
}

// numericOf returns a number, or the number in a string, digit for digit.
func numericOf(value json.RawMessage) *string {
	s, ok := unquoted(value)
	if !ok {
		return nil
	}
	if value[0] == '"' {
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
// point and 16,383 after it. It stops well before that.
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

// ParseTime parses RFC 3339 with any fraction or offset, in upper or lower case.
func ParseTime(s string) (time.Time, error) {
	return time.Parse(time.RFC3339Nano, strings.ToUpper(strings.TrimSpace(s)))
}

// Time returns the instant that TimestampTZ.Convert writes: what ParseTime parses, rounded to microseconds like Postgres, for
// years 1 to 9999. ok is false if that is null.
func Time(value json.RawMessage) (at time.Time, ok bool) {
	if value = bytes.TrimSpace(value); len(value) < 2 || value[0] != '"' {
		return at, false
	}
	if at.UnmarshalText(value[1:len(value)-1]) != nil { // which knows only the one way that nearly all are written in
		s, ok := unquoted(value)
		if !ok {
			return at, false
		}
		var err error
		if at, err = ParseTime(s); err != nil {
			return at, false
		}
	}
	at = at.UTC().Round(time.Microsecond)
	return at, at.Year() >= 1 && at.Year() <= 9999
}

func timeOf(value json.RawMessage) *string {
	at, ok := Time(value)
	if !ok {
		return nil
	}
	s := string(AppendTime(make([]byte, 0, 32), at))
	return &s
}

// AppendTime appends what TimestampTZ.Convert writes for an instant that Time gave.
func AppendTime(b []byte, at time.Time) []byte {
	text := at.AppendFormat(b, time.RFC3339Nano)
	text[len(b)+len("2006-01-02")] = ' ' // as Postgres writes it
	return text
}
