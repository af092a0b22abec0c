package mappings

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Keep says what may be stored of a field.
type Keep string

// What may be stored of a field, the strictest last.
const (
	Domain   Keep = "domain"    // of an e-mail address: @example.com
	Hash     Keep = "hash"      // a keyed hash, which only shows whether two values are the same
	LeaveOut Keep = "leave out" // nothing
)

var strictness = []Keep{Domain, Hash, LeaveOut}

// Rule says what may be stored of one field.
type Rule struct {
	Field string // its path, joined by dots
	Keep  Keep
}

// Strict reports whether the mapping keeps anything out of the database.
func (m *Mapping) Strict() bool {
	for _, table := range m.tables {
		if table.Strict() {
			return true
		}
	}
	return false
}

// Strict reports whether the table's mapping keeps anything out of the database.
func (t *Table) Strict() bool { return len(t.Rules) > 0 || t.Raw != RawAll }

// Lands reports whether anything of a field may be stored.
func (t *Table) Lands(field string) bool {
	return !slices.Contains(t.Rules, Rule{field, LeaveOut})
}

// Shape reduces an object to what may be stored of it, in columns and in _raw. It is idempotent.
func (t *Table) Shape(object Object) Object {
	if !t.Strict() || object == nil {
		return object
	}
	shaped := make(Object, len(object))
	for field, value := range object {
		if t.Raw != RawAll && !slices.ContainsFunc(t.Columns, func(c Column) bool { return top(c.Field) == field }) {
			continue
		}
		shaped[field] = value
	}
	for _, rule := range t.Rules {
		t.apply(shaped, strings.Split(rule.Field, "."), rule.Keep)
	}
	return shaped
}

func (t *Table) apply(object Object, path []string, keep Keep) {
	value, ok := object[path[0]]
	if !ok {
		return
	}
	if len(path) > 1 {
		var inner Object
		if json.Unmarshal(value, &inner) != nil || inner == nil {
			return // not an object, so there is nothing at the path
		}
		t.apply(inner, path[1:], keep)
		if text, err := json.Marshal(inner); err == nil {
			object[path[0]] = text
		}
		return
	}
	if keep == LeaveOut {
		delete(object, path[0])
		return
	}
	object[path[0]] = reduce(value, keep, t.hashKey)
}

var (
	hashed = regexp.MustCompile(`^hmac:[0-9a-f]{32}$`)
	domain = regexp.MustCompile(`^@[^@\s]+$`)
)

// reduce returns what may be stored of a value. A value that is no string has no domain; its hash is that of its JSON.
func reduce(value json.RawMessage, keep Keep, key []byte) json.RawMessage {
	text, ok := TextOf(value)
	if !ok {
		return json.RawMessage("null")
	}
	var kept string
	switch {
	case keep == Domain:
		at := strings.LastIndexByte(text, '@')
		if at < 0 || !domain.MatchString(strings.ToLower(text[at:])) {
			return json.RawMessage("null")
		}
		kept = strings.ToLower(text[at:])
	case hashed.MatchString(text):
		kept = text
	default:
		mac := hmac.New(sha256.New, key)
		// The same address in another case, or with a space after it, is the same person's.
		mac.Write([]byte(strings.ToLower(strings.TrimSpace(text))))
		kept = "hmac:" + hex.EncodeToString(mac.Sum(nil)[:16])
	}
	fits, err := json.Marshal(kept)
	if err != nil {
		return json.RawMessage("null")
	}
	return fits
}

// Payload reduces a webhook's body to what may be stored of it. LeadGrid does not document which object a field in it belongs to,
// so every object in it obeys the rules of all tables, and the strictest wins. ok is false if the body cannot be understood:
// then nothing of it may be stored.
func (m *Mapping) Payload(body []byte) (payload []byte, ok bool) {
	if !m.Strict() {
		return body, true
	}
	var event Object
	if json.Unmarshal(body, &event) != nil || event == nil {
		return nil, false
	}
	keeps := map[string]Keep{}
	mappedOnly := false
	for _, table := range m.tables {
		mappedOnly = mappedOnly || table.Raw != RawAll
		for _, rule := range table.Rules {
			// A rule for a nested field removes the whole field that it is nested in.
			field, keep := top(rule.Field), rule.Keep
			if field != rule.Field {
				keep = LeaveOut
			}
			if slices.Index(strictness, keep) > slices.Index(strictness, keeps[field]) {
				keeps[field] = keep
			}
		}
	}
	for field, value := range event {
		switch field {
		case "id", "type", "created_at":
		case "data":
			event[field] = m.shapeAny(value, keeps, mappedOnly)
		default:
			delete(event, field) // undocumented: anything could be in it
		}
	}
	payload, err := json.Marshal(event)
	return payload, err == nil
}

func (m *Mapping) shapeAny(value json.RawMessage, keeps map[string]Keep, mappedOnly bool) json.RawMessage {
	value = bytes.TrimSpace(value)
	var shaped any
	switch {
	case len(value) > 0 && value[0] == '{':
		var object Object
		if json.Unmarshal(value, &object) != nil {
			return json.RawMessage("null")
		}
		for field, inner := range object {
			keep, ruled := keeps[field]
			switch {
			case keep == LeaveOut, mappedOnly && !m.knows(field):
				delete(object, field)
			case ruled:
				object[field] = reduce(inner, keep, m.hashKey)
			default:
				object[field] = m.shapeAny(inner, keeps, mappedOnly)
			}
		}
		shaped = object
	case len(value) > 0 && value[0] == '[':
		var list []json.RawMessage
		if json.Unmarshal(value, &list) != nil {
			return json.RawMessage("null")
		}
		for i := range list {
			list[i] = m.shapeAny(list[i], keeps, mappedOnly)
		}
		shaped = list
	default:
		return value
	}
	text, err := json.Marshal(shaped)
	if err != nil {
		return json.RawMessage("null")
	}
	return text
}

// knows reports whether any table has a column for the field, or whether it is where an event holds an object.
func (m *Mapping) knows(field string) bool {
	if slices.Contains([]string{"dossier", "contact", "note", "stage"}, field) {
		return true
	}
	for _, table := range m.tables {
		if table.Documented(field) {
			return true
		}
	}
	return false
}

func top(path string) string {
	first, _, _ := strings.Cut(path, ".")
	return first
}

// put sets the value at a path.
func (o Object) put(path []string, value json.RawMessage) {
	if len(path) > 1 {
		inner := Object{}
		if text, ok := o[path[0]]; ok {
			_ = json.Unmarshal(text, &inner) // valid: it was put there below
		}
		inner.put(path[1:], value)
		value, _ = json.Marshal(inner) // valid JSON always encodes
	}
	o[path[0]] = value
}
