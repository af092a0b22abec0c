package leadgridapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// A request is one call of the API, ready to be sent, or the reason why it
// must not be sent.
type request struct {
	method      string
	path        string // below the base URL, its parts escaped
	query       url.Values
	body        []byte
	contentType string
	err         error // wraps ErrInvalidInput
}

// newRequest makes a request for the path made up of parts. Ids may hold any
// character, so each part is escaped. None may be empty, "." or "..": nobody
// means DELETE /contacts/.
func newRequest(method string, parts ...string) request {
	r := request{method: method}
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			r.err = fmt.Errorf("%w: %q is not an id", ErrInvalidInput, part)
		}
		r.path += "/" + url.PathEscape(part)
	}
	return r
}

func get(parts ...string) request { return newRequest(http.MethodGet, parts...) }

func post(body any, parts ...string) request {
	return newRequest(http.MethodPost, parts...).withJSON(body)
}

func patch(changes Changes, parts ...string) request {
	r := newRequest(http.MethodPatch, parts...).withJSON(changes)
	if len(changes) == 0 {
		r.err = fmt.Errorf("%w: no changes", ErrInvalidInput)
	}
	return r
}

func del(parts ...string) request { return newRequest(http.MethodDelete, parts...) }

func (r request) withJSON(body any) request {
	encoded, err := json.Marshal(body)
	if err != nil { // not wrapped, as it may quote the value
		r.err = fmt.Errorf("%w: a value has no JSON", ErrInvalidInput)
	}
	r.body, r.contentType = encoded, "application/json"
	return r
}

// Changes are the fields to change in an update, by LeadGrid's names, with their
// new values. A nil value is sent as null, to clear the field; fields that are
// not named stay as they are.
//
// Only assigned_to is documented to take null. Read the object back to see
// whether another field was cleared.
type Changes map[string]any
