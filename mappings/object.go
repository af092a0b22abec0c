package mappings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// Object is one LeadGrid object as the API gave it: its fields by name, each value the JSON text received.
type Object map[string]json.RawMessage

// ParseObject splits a JSON object into its fields; ok is false for anything else. The values share text's memory.
func ParseObject(text []byte) (object Object, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	return Take(text)
}

// Take is ParseObject for text that is known to be valid JSON.
func Take(text json.RawMessage) (object Object, ok bool) {
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

// With returns the text of an object with a field set to a string.
func With(object json.RawMessage, name, value string) json.RawMessage {
	field, err := json.Marshal(value)
	if err != nil {
		return object
	}
	fields, _ := leadgridapi.Members(object)
	empty, has := true, false
	for key := range fields {
		empty, has = false, has || string(key) == name
	}
	if end := bytes.LastIndexByte(object, '}'); !has && !empty && end > 0 {
		return fmt.Appendf(object[:end:end], ",%q:%s}", name, field) // our names need no escaping
	}
	whole, ok := Take(object)
	if !ok {
		return object
	}
	whole[name] = field
	filled, err := json.Marshal(whole)
	if err != nil {
		return object
	}
	return filled
}

// lookup returns the value at a path, nil if there is none.
func (o Object) lookup(path string) json.RawMessage {
	return find(path, func(field string) (json.RawMessage, bool) { value, found := o[field]; return value, found })
}

// find finds the value at a path of an object whose fields get gives; absent is nil.
func find(path string, get func(field string) (value json.RawMessage, found bool)) json.RawMessage {
	value, found := get(path)
	first, rest, nested := strings.Cut(path, ".")
	if found || !nested {
		return value
	}
	outer, _ := get(first)
	var inner Object
	if json.Unmarshal(outer, &inner) != nil {
		return nil
	}
	return inner.lookup(rest)
}

// In gives the column's value in an object whose fields get gives; absent is nil.
func (c Column) In(get func(field string) (value json.RawMessage, found bool)) json.RawMessage {
	return find(c.Field, get)
}
