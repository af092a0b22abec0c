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
)

// decode fills the fields of the struct that into points to from the JSON
// object raw, by their json tags, and keeps raw in *keep. A value that does not
// fit its field leaves it zero; one that is no object leaves all of them zero.
// Keys match exactly, unlike in encoding/json.
func decode(raw []byte, into any, keep *json.RawMessage) error {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(raw, &members)
	v := reflect.ValueOf(into).Elem()
	v.SetZero()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		if value, ok := members[name]; ok {
			decodeField(name, value, v.Field(i))
		}
	}
	*keep = bytes.Clone(raw)
	return nil
}

func decodeField(name string, value json.RawMessage, field reflect.Value) {
	if json.Unmarshal(value, field.Addr().Interface()) == nil {
		return
	}
	field.SetZero()
	// Ids are text to us; one that comes as a number is still an id.
	if strings.HasSuffix(name, "id") && field.Kind() == reflect.String && isNumber(value) {
		field.SetString(string(value))
	}
}

func isNumber(value []byte) bool {
	return len(value) > 0 && (value[0] == '-' || '0' <= value[0] && value[0] <= '9')
}

// envelope is what every answer is wrapped in.
type envelope struct {
	data json.RawMessage
	meta Meta
}

// open unwraps body, whose data must begin with the byte kind: '{' or '['.
func open(body []byte, kind byte) (envelope, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		// The reason, without the words of the body: a type error quotes none,
		// a syntax error one character.
		return envelope{}, fmt.Errorf("the body is not a JSON object: %w", err)
	}
	data := members["data"]
	if len(data) == 0 || data[0] != kind {
		return envelope{}, errors.New("its data is missing or of the wrong shape")
	}
	var meta Meta
	_ = meta.UnmarshalJSON(members["meta"])
	return envelope{data: data, meta: meta}, nil
}

// one sends r and decodes the single object of its answer.
func one[T any](ctx context.Context, c *Client, r request) (T, error) {
	var object T
	a, err := c.do(ctx, r)
	if err != nil {
		return object, err
	}
	e, err := open(a.body, '{')
	if err == nil {
		err = json.Unmarshal(e.data, &object)
	}
	if err != nil {
		return object, a.misunderstood(err)
	}
	return object, nil
}

// list asks for one page of the list at parts and decodes it.
func list[T any](ctx context.Context, c *Client, filter url.Values, p PageRequest, parts ...string) (Page[T], error) {
	r := get(parts...)
	r.query = p.addTo(filter)
	a, err := c.do(ctx, r)
	if err != nil {
		return Page[T]{}, err
	}
	page := Page[T]{Raw: a.body}
	e, err := open(a.body, '[')
	if err == nil {
		page.Meta = e.meta
		err = json.Unmarshal(e.data, &page.Items)
	}
	if err != nil {
		return Page[T]{}, a.misunderstood(err)
	}
	return page, nil
}

// none sends r. Of its answer only the status counts: what LeadGrid answers to a
// DELETE is not documented.
func none(ctx context.Context, c *Client, r request) error {
	_, err := c.do(ctx, r)
	return err
}
