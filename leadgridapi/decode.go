package leadgridapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync"
)

// decode fills the struct that into points to from raw, which must be valid JSON,
// by the fields' json tags, and keeps raw in *keep. A value that does not fit
// its field leaves it zero; if raw is no object, all fields stay zero. Keys must
// match exactly, unlike in encoding/json.
func decode(raw []byte, into any, keep *json.RawMessage) error {
	target := reflect.ValueOf(into).Elem()
	target.SetZero()
	fields := fieldsOf(target.Type())
	for key, value := range members(raw) {
		if i, ok := fields[string(key)]; ok {
			decodeField(string(key), value, target.Field(i))
		}
	}
	*keep = bytes.Clone(raw)
	return nil
}

func decodeField(name string, value []byte, field reflect.Value) {
	field.SetZero()
	switch {
	case field.Kind() == reflect.String && field.Type() != numberType:
		if strings.HasSuffix(name, "id") { // an id may come as a number
			field.SetString(idText(value))
		} else {
			field.SetString(string(unquote(value)))
		}
	case json.Unmarshal(value, field.Addr().Interface()) != nil:
		field.SetZero()
	}
}

var numberType = reflect.TypeFor[json.Number]()

// fieldsByType caches fieldsOf: reading tags takes longer than the rest of decode.
var fieldsByType sync.Map

// fieldsOf returns the indexes of a struct's fields by their json tags.
func fieldsOf(t reflect.Type) map[string]int {
	if known, ok := fieldsByType.Load(t); ok {
		return known.(map[string]int)
	}
	fields := map[string]int{}
	for i := range t.NumField() {
		fields[t.Field(i).Tag.Get("json")] = i
	}
	delete(fields, "-")
	fieldsByType.Store(t, fields)
	return fields
}

// open checks that body is an object with data, as every answer is, and returns
// data, its elements and meta. data must begin with the byte kind, '{' or '[';
// null beside a total is an empty list, as many servers write one.
func open(body []byte, kind byte) (data []byte, items []json.RawMessage, meta Meta, err error) {
	c := checker{cursor: cursor{data: body}}
	data, items, metaText, err := c.envelope()
	if err != nil {
		// Unmarshal says whether it is cut short or HTML, and quotes at most one
		// character.
		if syntax := json.Unmarshal(body, new(any)); syntax != nil {
			err = syntax
		}
		return nil, nil, meta, fmt.Errorf("the body is not JSON: %w", err)
	}
	if metaText != nil {
		_ = meta.UnmarshalJSON(metaText)
	}
	empty := kind == '[' && string(data) == "null" && meta.Total != nil
	if !empty && (len(data) == 0 || data[0] != kind) {
		return nil, nil, meta, errors.New("the body has no data, or data of another shape")
	}
	return data, items, meta, nil
}

// envelope reads an answer in one pass, and returns its data, the data's elements
// and its meta. Where a key comes twice, the last one counts.
func (c *checker) envelope() (data []byte, items []json.RawMessage, meta []byte, err error) {
	c.space()
	if c.peek() != '{' {
		if err = c.value(0); err == nil {
			err = c.end()
		}
		return nil, nil, nil, err
	}
	c.at++
	c.space()
	for more := !c.take('}'); more; {
		quoted, err := c.key()
		if err != nil {
			return nil, nil, nil, err
		}
		c.space()
		start, key := c.at, string(unquote(quoted))
		if key == "data" {
			items = nil
		}
		if key == "data" && c.peek() == '[' {
			err = c.array(2, &items)
		} else {
			err = c.value(1)
		}
		if err != nil {
			return nil, nil, nil, err
		}
		switch key {
		case "data":
			data = c.data[start:c.at]
		case "meta":
			meta = c.data[start:c.at]
		}
		c.space()
		if more = c.take(','); !more && !c.take('}') {
			return nil, nil, nil, errSyntax
		}
	}
	return data, items, meta, c.end()
}

// end returns nil if nothing follows but blanks.
func (c *checker) end() error {
	c.space()
	if c.at < len(c.data) {
		return errTrailing
	}
	return nil
}

// An object is a pointer to one of the structs for LeadGrid's objects.
type object[T any] interface {
	*T
	json.Unmarshaler
}

// one sends r and decodes the single object of its answer.
func one[T any, P object[T]](ctx context.Context, c *Client, r request) (T, error) {
	var item T
	a, err := c.do(ctx, r)
	if err != nil {
		return item, err
	}
	data, _, _, err := open(a.body, '{')
	if err != nil {
		return item, a.misunderstood(err)
	}
	if err := P(&item).UnmarshalJSON(data); err != nil {
		return item, a.misunderstood(err)
	}
	return item, nil
}

// list asks for one page of the list at parts and decodes it.
func list[T any, P object[T]](ctx context.Context, c *Client, filter url.Values, p PageRequest, parts ...string) (Page[T], error) {
	raw, err := rawList(ctx, c, filter, p, parts...)
	if err != nil {
		return Page[T]{}, err
	}
	page := Page[T]{Meta: raw.Meta, Raw: raw.Raw}
	for _, value := range raw.Items {
		var item T
		_ = P(&item).UnmarshalJSON(value) // forgives everything, so that no object makes the page fail
		page.Items = append(page.Items, item)
	}
	return page, nil
}

// none sends r. Only the answer's status counts: LeadGrid does not document what
// a DELETE answers.
func none(ctx context.Context, c *Client, r request) error {
	_, err := c.do(ctx, r)
	return err
}
