package verify

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is what LeadGrid showed, row what a table holds: decoded JSON, with numbers as json.Number.
type (
	object map[string]any
	row    map[string]any
)

// id names the object as reports do; a link by both its ids, with | between them.
func (t *table) id(of map[string]any) string {
	parts := make([]string, len(t.key))
	for i, key := range t.key {
		text, ok := asText(of[key]).(string)
		if !ok || text == "" {
			return ""
		}
		parts[i] = text
	}
	return strings.Join(parts, "|")
}

// columns maps a table's columns to their types, as Postgres names them.
type columns map[string]string

// differing lists the fields in which a row differs from what LeadGrid showed. A documented field that the object leaves out
// is null if LeadGrid has shown that field elsewhere in the same kind of answer. If it has not, and the row has a value there,
// unsure is true.
func (t *table) differing(types columns, told object, shown map[string]bool, have row) (fields []string, unsure bool) {
	raw, _ := have["_raw"].(map[string]any)
	for name, columnType := range types {
		value, ok := told[name]
		switch {
		case strings.HasPrefix(name, "_"), !ok && !slices.Contains(t.fields, name):
			continue
		case !ok && !shown[name]:
			unsure = unsure || have[name] != nil
			continue
		}
		if !sameColumn(columnType, value, have[name]) && !(isSet(name) && isCut(value, have[name])) {
			fields = append(fields, name)
		}
	}
	for name, value := range told {
		columnType, mirrored := types[name]
		if raw == nil || slices.Contains(fields, name) || !mirrored && name != "stages" && slices.Contains(t.fields, name) {
			continue // a documented field without a column is left out by the customer's mapping
		}
		if !sameJSON(value, raw[name]) && !(columnType == "timestamp with time zone" && (sameTime(value, raw[name]) || isSet(name) && isCut(value, raw[name]))) {
			fields = append(fields, "_raw."+name)
		}
	}
	slices.Sort(fields)
	return fields, unsure
}

// sameColumn compares LeadGrid's value with a column's. A value that the type cannot hold must be null in the column.
func sameColumn(columnType string, told, have any) bool {
	switch columnType {
	case "text":
		return sameJSON(asText(told), have)
	case "text[]":
		return sameJSON(asTexts(told), have)
	case "numeric":
		return sameJSON(asNumber(told), have)
	case "boolean":
		if _, ok := told.(bool); !ok {
			told = nil
		}
		return told == have
	case "timestamp with time zone":
		return sameTime(told, have)
	}
	return sameJSON(told, have)
}

// asText returns a value as a text column holds it.
func asText(value any) any {
	switch value := value.(type) {
	case nil, string:
		return value
	case json.Number:
		return value.String()
	case bool:
		return strconv.FormatBool(value)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return string(text)
}

func asTexts(value any) any {
	list, ok := value.([]any)
	if !ok {
		if value == nil {
			return nil
		}
		list = []any{value}
	}
	texts := make([]any, len(list))
	for i, element := range list {
		texts[i] = asText(element)
	}
	return texts
}

// asNumber returns a value as a numeric column holds it: a number, or a string that holds one, if it is not absurdly long.
func asNumber(value any) any {
	text, ok := value.(string)
	if number, isNumber := value.(json.Number); isNumber {
		text, ok = number.String(), true
	}
	text = strings.TrimSpace(text)
	if !ok || !json.Valid([]byte(text)) || !strings.ContainsRune("-0123456789", rune(text[0])) || absurd(text) {
		return nil
	}
	return json.Number(text)
}

// absurd reports whether a number has more digits than a column holds; the mirror keeps such numbers in _raw, as text.
func absurd(number string) bool {
	exponent := 0
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(number[i+1:]); err != nil {
			return true
		}
	}
	return len(number) > 1000 || exponent > 1000 || exponent < -1000
}

// sameTime compares instants. Postgres keeps microseconds.
func sameTime(told, have any) bool {
	a, b := asTime(told), asTime(have)
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Sub(*b).Abs() <= time.Microsecond
}

// isSet reports whether LeadGrid sets the time of that name, so that lists may tell it with fewer digits than a GET.
func isSet(name string) bool { return name == "created_at" || name == "updated_at" }

// isCut reports whether LeadGrid told the time that a row has without its last digits.
func isCut(told, have any) bool {
	a, b := asTime(told), asTime(have)
	if a == nil || b == nil {
		return false
	}
	return slices.ContainsFunc([]time.Duration{time.Second, time.Millisecond, time.Microsecond}, func(digit time.Duration) bool {
		return a.Truncate(digit).Equal(*a) && b.Truncate(digit).Equal(*a)
	})
}

func asTime(value any) *time.Time {
	text, ok := value.(string)
	if !ok {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(strings.TrimSpace(text)))
	if err != nil || at.UTC().Year() < 1 || at.UTC().Year() > 9999 {
		return nil
	}
	return &at
}

// sameJSON compares two values by meaning: numbers by value, strings as Postgres can hold them, and an absent key like null.
func sameJSON(told, have any) bool {
	switch told := told.(type) {
	case nil:
		return have == nil
	case string:
		text, ok := have.(string)
		return ok && text == strings.ReplaceAll(told, "\x00", "\uFFFD")
	case json.Number:
		if absurd(told.String()) {
			return have == told.String()
		}
		number, ok := have.(json.Number)
		return ok && sameNumber(told.String(), number.String())
	case []any:
		list, ok := have.([]any)
		return ok && slices.EqualFunc(told, list, sameJSON)
	case map[string]any:
		other, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range told {
			if !sameJSON(value, other[key]) {
				return false
			}
		}
		for key, value := range other {
			if _, ok := told[key]; !ok && value != nil {
				return false
			}
		}
		return true
	}
	return told == have
}

func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	if absurd(a) || absurd(b) {
		return false
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}
