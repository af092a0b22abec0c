package writeback

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// likeness says how much an object in LeadGrid resembles what a create sent.
type likeness int

const (
	different likeness = iota
	similar            // it has the same name or e-mail, but something else differs
	equal              // every field that was sent has that value, and all others are empty
)

// naming are the fields that identify an object to people: two objects are similar if one of these is the same.
var naming = map[Operation][]string{
	CreateDossier: {"name", "email"},
	CreateContact: {"full_name", "email"},
	AddNote:       {"content"},
}

// sendable are the other fields a create can send that LeadGrid does not fill in by itself.
var sendable = map[Operation][]string{
	CreateDossier: {"email", "phone", "city", "company", "role", "intake_notes", "contact_person", "deal_size"},
	CreateContact: {"email", "phone", "linkedin_url", "company", "role", "city", "notes"},
}

// compare compares an object with what a create sent. A field that the object does not carry counts neither way.
func compare(operation Operation, sent, object mappings.Object) likeness {
	looks := different
	for _, field := range naming[operation] {
		if a, b := textOf(sent, field), textOf(object, field); a != "" && strings.EqualFold(squeeze(a), squeeze(b)) {
			looks = similar
		}
	}
	if looks == different {
		return different
	}
	for field, value := range sent {
		if shown, ok := object[field]; ok && !same(value, shown) {
			return similar
		}
	}
	for _, field := range sendable[operation] {
		if _, ok := sent[field]; !ok && !empty(object[field]) {
			return similar
		}
	}
	return equal
}

// squeeze turns each run of blanks into one, as some forms do.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// same compares two JSON values: numbers by value, lists as sets, times by instant.
func same(a, b json.RawMessage) bool {
	x, y := decoded(a), decoded(b)
	return sameValue(x, y)
}

func sameValue(x, y any) bool {
	switch x := x.(type) {
	case json.Number:
		number, ok := y.(json.Number)
		if !ok {
			return false
		}
		p, okP := new(big.Rat).SetString(bounded(x))
		q, okQ := new(big.Rat).SetString(bounded(number))
		if !okP || !okQ {
			return x == number
		}
		return p.Cmp(q) == 0
	case string:
		text, ok := y.(string)
		return ok && (x == text || sameTime(x, text))
	case []any:
		list, ok := y.([]any)
		return ok && within(x, list) && within(list, x)
	case map[string]any:
		object, ok := y.(map[string]any)
		if !ok || len(object) != len(x) {
			return false
		}
		for key, value := range x {
			if other, ok := object[key]; !ok || !sameValue(value, other) {
				return false
			}
		}
		return true
	}
	return x == y
}

// bounded keeps big.Rat from expanding a number of a billion digits.
func bounded(n json.Number) string {
	if s := n.String(); len(s) <= 100 && !strings.ContainsAny(s, "eE") {
		return s
	}
	return ""
}

func sameTime(a, b string) bool {
	x, err := mappings.ParseTime(a)
	if err != nil {
		return false
	}
	y, err := mappings.ParseTime(b)
	return err == nil && x.Equal(y)
}

func within(a, b []any) bool {
	for _, x := range a {
		if !slices.ContainsFunc(b, func(y any) bool { return sameValue(x, y) }) {
			return false
		}
	}
	return true
}

func decoded(value json.RawMessage) (decoded any) {
	decoder := json.NewDecoder(strings.NewReader(string(value)))
	decoder.UseNumber()
	if err := decoder.Decode(&decoded); err != nil {
		return nil // absent is null
	}
	return decoded
}

func empty(value json.RawMessage) bool {
	switch v := decoded(value).(type) {
	case nil:
		return true
	case string:
		return v == ""
	}
	return false
}

func objectOf(raw json.RawMessage) (object mappings.Object) {
	_ = json.Unmarshal(raw, &object) // anything but an object has no fields
	return object
}

// textOf returns a field as text, empty if there is none. A number, such as an id may be, is its digits.
func textOf(object mappings.Object, field string) string {
	if text := mappings.Text.Convert(object[field]); text != nil {
		return *text
	}
	return ""
}

// storable returns s with U+FFFD in place of what no Postgres text can hold.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}
