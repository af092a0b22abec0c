package leadgridapi_test

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// What each operation sends, and that it reads what it is answered.
func TestOperations(t *testing.T) {
	const object = `{"data": {"id": "x", "contact_id": "x"}}`
	const objects = `{"data": [{"id": "x", "contact_id": "x"}], "meta": {"total": 1, "page": 1, "per_page": 25}}`
	tests := []struct {
		call   func(context.Context, *leadgridapi.Client) (string, error) // returns the id it got
		answer string
		method string
		uri    string
		body   string // JSON, or a form's parts
	}{
		{
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListDossiers(ctx, leadgridapi.DossierFilter{}, leadgridapi.PageRequest{})
				return firstOf(p, leadgridapi.Dossier{}).ID, err
			},
			objects, "GET", "/api/v1/dossiers", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListDossiers(ctx, leadgridapi.DossierFilter{Type: "sales", Status: "won", StageID: "a b"},
					leadgridapi.PageRequest{Page: 3, PerPage: 500})
				return firstOf(p, leadgridapi.Dossier{}).ID, err
			},
			objects, "GET", "/api/v1/dossiers?page=3&per_page=100&stage_id=a+b&status=won&type=sales", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.CreateDossier(ctx, leadgridapi.DossierInput{Type: "sales", Name: "Zoë <&>", DealSize: "12345678901234567890.12"}, nil)
				return d.ID, err
			},
			object, "POST", "/api/v1/dossiers", `{"deal_size":12345678901234567890.12,"name":"Zoë <&>","type":"sales"}`,
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.CreateDossier(ctx, leadgridapi.DossierInput{Type: "sales", Name: "Zoë", DealSize: "12345678901234567890.12"},
					&leadgridapi.CV{Filename: "a\"b\r\n.pdf", Data: pdf})
				return d.ID, err
			},
			object, "POST", "/api/v1/dossiers",
			`deal_size=12345678901234567890.12|name=Zoë|type=sales|cv="a\"b%0D%0A.pdf" application/pdf ` + string(pdf),
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.Dossier(ctx, "x")
				return d.ID, err
			},
			object, "GET", "/api/v1/dossiers/x", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.Dossier(ctx, "a/../b?c#d é%2F")
				return d.ID, err
			},
			object, "GET", "/api/v1/dossiers/a%2F..%2Fb%3Fc%23d%20%C3%A9%252F", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.UpdateDossier(ctx, "x", leadgridapi.Changes{"assigned_to": nil, "deal_size": json.Number("0.10"), "name": "n"})
				return d.ID, err
			},
			object, "PATCH", "/api/v1/dossiers/x", `{"assigned_to":null,"deal_size":0.10,"name":"n"}`,
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				return "x", c.ArchiveDossier(ctx, "x")
			},
			"", "DELETE", "/api/v1/dossiers/x", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.UploadCV(ctx, "x", leadgridapi.CV{Data: pdf})
				return d.ID, err
			},
			object, "POST", "/api/v1/dossiers/x/cv", `cv="cv.pdf" application/pdf ` + string(pdf),
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.UploadCVRaw(ctx, "x", pdf)
				return d.ID, err
			},
			object, "POST", "/api/v1/dossiers/x/cv", string(pdf),
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListContacts(ctx, leadgridapi.ContactFilter{Kinds: []string{"client", "partner"}, Pool: "in_pool", Search: "J&J"},
					leadgridapi.PageRequest{Page: 1, PerPage: 50})
				return firstOf(p, leadgridapi.Contact{}).ID, err
			},
			objects, "GET", "/api/v1/contacts?kind=client&kind=partner&page=1&per_page=50&pool=in_pool&search=J%26J", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.CreateContact(ctx, leadgridapi.ContactInput{FullName: "An", Kind: []string{"client"}})
				return d.ID, err
			},
			object, "POST", "/api/v1/contacts", `{"full_name":"An","kind":["client"]}`,
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.Contact(ctx, "x")
				return d.ID, err
			},
			object, "GET", "/api/v1/contacts/x", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				d, err := c.UpdateContact(ctx, "x", leadgridapi.Changes{"kind": []string{}, "email": nil})
				return d.ID, err
			},
			object, "PATCH", "/api/v1/contacts/x", `{"email":null,"kind":[]}`,
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				return "x", c.DeleteContact(ctx, "x")
			},
			"", "DELETE", "/api/v1/contacts/x", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListLinks(ctx, "d", leadgridapi.PageRequest{Page: 2})
				return firstOf(p, leadgridapi.Link{}).ContactID, err
			},
			objects, "GET", "/api/v1/dossiers/d/contacts?page=2", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				l, err := c.LinkContact(ctx, "d", leadgridapi.LinkInput{ContactID: "x", RoleOnDossier: "champion", IsPrimary: true})
				return l.ContactID, err
			},
			object, "POST", "/api/v1/dossiers/d/contacts", `{"contact_id":"x","is_primary":true,"role_on_dossier":"champion"}`,
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				return "x", c.UnlinkContact(ctx, "d/1", "x/2")
			},
			"", "DELETE", "/api/v1/dossiers/d%2F1/contacts/x%2F2", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListFlows(ctx, leadgridapi.FlowFilter{Type: "candidate"}, leadgridapi.PageRequest{})
				return firstOf(p, leadgridapi.Flow{}).ID, err
			},
			objects, "GET", "/api/v1/flows?type=candidate", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListStages(ctx, "f", leadgridapi.PageRequest{})
				return firstOf(p, leadgridapi.Stage{}).ID, err
			},
			objects, "GET", "/api/v1/flows/f/stages", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				p, err := c.ListNotes(ctx, "d", leadgridapi.PageRequest{})
				return firstOf(p, leadgridapi.Note{}).ID, err
			},
			objects, "GET", "/api/v1/dossiers/d/notes", "",
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				n, err := c.AddNote(ctx, "d", leadgridapi.NoteInput{Content: "called"})
				return n.ID, err
			},
			object, "POST", "/api/v1/dossiers/d/notes", `{"content":"called"}`,
		}, {
			func(ctx context.Context, c *leadgridapi.Client) (string, error) {
				n, err := c.AddNote(ctx, "d", leadgridapi.NoteInput{Content: "called", IsInternal: new(false)})
				return n.ID, err
			},
			object, "POST", "/api/v1/dossiers/d/notes", `{"content":"called","is_internal":false}`,
		},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.uri, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != test.method || r.RequestURI != test.uri {
					t.Errorf("got %s %s", r.Method, r.RequestURI)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer "+testKey {
					t.Errorf("got Authorization %q", got)
				}
				if _, there := r.Header["Idempotency-Key"]; there {
					t.Error("got an Idempotency-Key")
				}
				if got := bodyOf(t, r); got != test.body {
					t.Errorf("got body %s\nwant     %s", got, test.body)
				}
				_, _ = io.WriteString(w, test.answer)
			})
			id, err := test.call(t.Context(), client)
			if err != nil || id != "x" {
				t.Errorf("got id %q, error %v", id, err)
			}
		})
	}
}

func firstOf[T any](p leadgridapi.Page[T], none T) T {
	if len(p.Items) == 0 {
		return none
	}
	return p.Items[0]
}

// bodyOf writes a request's body in a way that can be compared: JSON with its
// keys in order, a form as its parts.
func bodyOf(t *testing.T, r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if len(body) == 0 {
		return ""
	}
	switch kind {
	case "application/json":
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Error(err)
		}
		var ordered strings.Builder
		e := json.NewEncoder(&ordered)
		e.SetEscapeHTML(false)
		if err := e.Encode(members); err != nil {
			t.Error(err)
		}
		return strings.NewReplacer("\n", "", `\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(ordered.String())
	case "multipart/form-data":
		return partsOf(t, string(body), params["boundary"])
	case "application/pdf":
		return string(body)
	}
	t.Errorf("unexpected Content-Type %q, %v", kind, err)
	return string(body)
}

func partsOf(t *testing.T, body, boundary string) string {
	var parts []string
	for reader := multipart.NewReader(strings.NewReader(body), boundary); ; {
		part, err := reader.NextPart()
		if err == io.EOF {
			return strings.Join(parts, "|")
		}
		if err != nil {
			t.Error(err)
			return ""
		}
		content, _ := io.ReadAll(part)
		value := string(content)
		if part.FileName() != "" {
			_, name, _ := strings.Cut(part.Header.Get("Content-Disposition"), "filename=")
			value = name + " " + part.Header.Get("Content-Type") + " " + value
		}
		parts = append(parts, part.FormName()+"="+value)
	}
}
