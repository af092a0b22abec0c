package leadgridapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// A request is one call of the API, ready to be sent, or the reason why it
// must not be.
type request struct {
	method      string
	path        string // below the base URL, its parts escaped
	query       url.Values
	body        []byte
	contentType string
	err         error // wraps ErrInvalidInput
}

// newRequest makes a request for the path that parts make up, of which the ids
// are whatever LeadGrid says they are. Each part is escaped to stay one part, and
// none may be empty or climb: DELETE /contacts/ is not what anyone meant.
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
	if err != nil { // which may quote the value
		r.err = fmt.Errorf("%w: a value has no JSON", ErrInvalidInput)
	}
	r.body, r.contentType = encoded, "application/json"
	return r
}

// Changes is what an update changes: field names, as LeadGrid spells them, with
// their new values. A nil value is sent as null, which clears the field; a field
// that is not named stays as it is.
//
// Only assigned_to is documented to take null. Read the object back to see
// whether another field was cleared.
type Changes map[string]any
