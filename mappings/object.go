package mappings

import (
	"encoding/json"
	"strings"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// Object is one LeadGrid object as the API gave it: its fields by name, each value the JSON text received.
type Object map[string]json.RawMessage

// ParseObject takes a JSON object apart; ok is false for anything else. The values lie in text.
func ParseObject(text []byte) (object Object, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	fields, ok := leadgridapi.Members(text)
	if !ok {
		return nil, false
	}
	object = make(Object, 24)
	for key, value := range fields {
		object[string(key)] = value
	}
	return object, true
}

// lookup finds the value at a path; absent is nil.
func (o Object) lookup(path string) json.RawMessage {
	value, found := o[path]
	first, rest, nested := strings.Cut(path, ".")
	if found || !nested {
		return value
	}
	var inner Object
	if json.Unmarshal(o[first], &inner) != nil {
		return nil
	}
	return inner.lookup(rest)
}
