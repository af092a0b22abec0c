package leadgridtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Fields are the fields of a row by their documented names. Values are string, nil, bool, int, json.Number,
// float64 or (kind only) []string.
type Fields map[string]any

const (
	maxJSON = 1 << 20
	maxCV   = 10 << 20
)

// input says what an API caller may send for one key.
type input struct {
	key      string
	kind     string // text, email, number, currency, flag, kinds, or one of values
	values   []string
	required bool // in a create; and never null
	sales    bool // only for sales dossiers
	create   bool // only in a create
	patch    bool // only in a PATCH
}

var (
	dossierInputs = []input{
		{key: "type", kind: "one of", values: []string{"candidate", "sales"}, required: true, create: true},
		{key: "name", kind: "text", required: true},
		{key: "email", kind: "email"},
		{key: "phone", kind: "text"},
		{key: "city", kind: "text"},
		{key: "company", kind: "text"},
		{key: "role", kind: "text"},
		{key: "contact_id", kind: "text", create: true},
		{key: "flow_id", kind: "text", create: true},
		{key: "assigned_to", kind: "text"},
		{key: "intake_notes", kind: "text"},
		{key: "contact_person", kind: "text", sales: true},
		{key: "deal_size", kind: "number", sales: true},
		{key: "deal_currency", kind: "currency", sales: true},
		{key: "status", kind: "one of", values: []string{"active", "won", "lost", "archived"}, required: true, patch: true},
		{key: "current_stage_id", kind: "text", required: true, patch: true},
	}
	contactInputs = []input{
		{key: "full_name", kind: "text", required: true},
		{key: "email", kind: "email"},
		{key: "phone", kind: "text"},
		{key: "linkedin_url", kind: "text"},
		{key: "company", kind: "text"},
		{key: "role", kind: "text"},
		{key: "city", kind: "text"},
		{key: "kind", kind: "kinds", values: contactKinds},
		{key: "notes", kind: "text"},
	}
	linkInputs = []input{
		{key: "contact_id", kind: "text", required: true},
		{key: "role_on_dossier", kind: "one of", values: linkRoles, required: true},
		{key: "is_primary", kind: "flag"},
	}
	noteInputs = []input{
		{key: "content", kind: "text", required: true},
		{key: "is_internal", kind: "flag"},
	}
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// check reads the keys a create or a PATCH may carry; others are ignored.
func check(body Fields, inputs []input, patch bool) (Fields, error) {
	fields := Fields{}
	for _, in := range inputs {
		value, sent := body[in.key]
		switch {
		case patch && in.create && sent:
			return nil, invalid("%s cannot be changed", in.key)
		case !patch && in.patch:
			continue
		case !patch && in.required && value == nil:
			return nil, invalid("%s is required", in.key)
		case !sent:
			continue
		}
		if value != nil {
			if err := in.check(value); err != nil {
				return nil, err
			}
			if in.kind == "kinds" {
				value = texts(value.([]any))
			}
		} else if in.required || in.kind == "flag" {
			return nil, invalid("%s cannot be null", in.key)
		}
		fields[in.key] = value
	}
	return fields, nil
}

func (in input) check(value any) error {
	text, isText := value.(string)
	switch in.kind {
	case "number":
		if _, ok := value.(json.Number); !ok {
			return invalid("%s must be a number", in.key)
		}
		return nil
	case "flag":
		if _, ok := value.(bool); !ok {
			return invalid("%s must be true or false", in.key)
		}
		return nil
	case "kinds":
		list, ok := value.([]any)
		if !ok {
			return invalid("%s must be a list", in.key)
		}
		for _, item := range list {
			if kind, ok := item.(string); !ok || !slices.Contains(in.values, kind) {
				return invalid("%s holds only %s", in.key, strings.Join(in.values, ", "))
			}
		}
		return nil
	}
	if !isText {
		return invalid("%s must be a string", in.key)
	}
	switch in.kind {
	case "one of":
		if !slices.Contains(in.values, text) {
			return invalid("%s must be one of %s", in.key, strings.Join(in.values, ", "))
		}
	case "email":
		if address, err := mail.ParseAddress(text); err != nil || address.Address != text {
			return invalid("%s is not an e-mail address", in.key)
		}
	case "currency":
		if !currency.MatchString(text) {
			return invalid("%s must be an ISO 4217 code", in.key)
		}
	default:
		if in.required && strings.TrimSpace(text) == "" {
			return invalid("%s cannot be empty", in.key)
		}
	}
	return nil
}

// texts are the distinct texts of a list, in order.
func texts(list []any) []string {
	found := make([]string, 0, len(list))
	for _, item := range list {
		if text := item.(string); !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	return found
}

// jsonBody reads a JSON object.
func (c *call) jsonBody() (Fields, error) {
	raw, err := io.ReadAll(io.LimitReader(c.r.Body, maxJSON+1))
	if err != nil || len(raw) > maxJSON {
		return nil, invalid("The body is too large or broke off")
	}
	if !utf8.Valid(raw) {
		return nil, invalid("The body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var fields Fields
	if err := decoder.Decode(&fields); err != nil || fields == nil {
		return nil, invalid("The body is not a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("The body is more than a JSON object")
	}
	return fields, nil
}

// mediaType is the request's content type without parameters.
func (c *call) mediaType() string {
	media, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	return media
}

// form reads a multipart body: its fields, and the file called cv if there is one.
func (c *call) form() (Fields, []byte, error) {
	broken := invalid("The multipart body cannot be read")
	parts, err := c.r.MultipartReader()
	if err != nil {
		return nil, nil, broken
	}
	fields := Fields{}
	var cv []byte
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return fields, cv, nil
		}
		if err != nil {
			return nil, nil, broken
		}
		content, err := io.ReadAll(io.LimitReader(part, maxCV+1))
		if err != nil {
			return nil, nil, broken
		}
		if part.FormName() == "cv" {
			cv = append([]byte{}, content...) // not nil, even when empty
		} else {
			fields[part.FormName()] = formValue(part, content)
		}
	}
}

// formValue turns a form's text into what JSON would have carried.
func formValue(part *multipart.Part, content []byte) any {
	var number json.Number
	if part.FormName() == "deal_size" && !bytes.ContainsRune(content, '"') && json.Unmarshal(content, &number) == nil {
		return number
	}
	return string(content)
}

// checkCV refuses what is no PDF of at most 10 MB.
func checkCV(content []byte) error {
	if len(content) > maxCV {
		return invalid("The CV is larger than 10 MB")
	}
	if !bytes.HasPrefix(content, []byte("%PDF-")) {
		return invalid("The CV is not a PDF")
	}
	return nil
}

// cvBody reads a CV sent as multipart or as a raw PDF.
func (c *call) cvBody() ([]byte, error) {
	switch c.mediaType() {
	case "multipart/form-data":
		_, cv, err := c.form()
		if err == nil && cv == nil {
			err = invalid("The file cv is missing")
		}
		return cv, err
	case "application/pdf":
		content, err := io.ReadAll(io.LimitReader(c.r.Body, maxCV+1))
		if err != nil {
			return nil, invalid("The CV broke off")
		}
		return content, nil
	}
	return nil, invalid("A CV is sent as multipart/form-data or application/pdf")
}
