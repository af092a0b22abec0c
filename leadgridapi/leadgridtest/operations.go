package leadgridtest

import (
	"net/http"
	"net/url"
	"strings"
)

// operation is one of the 18 of the contract.
type operation struct {
	name   string
	method string
	path   []string // ":" stands for an id
	scopes []string
	run    func(*call) (answer, error)
}

// operations is filled in by init: the functions lead back to it.
var operations []operation

func init() {
	operations = []operation{
		op("dossiers.list", "GET /dossiers", listDossiers, "dossiers:read"),
		op("dossiers.create", "POST /dossiers", createDossier, "dossiers:write"),
		op("dossiers.get", "GET /dossiers/:", getDossier, "dossiers:read"),
		op("dossiers.update", "PATCH /dossiers/:", updateDossier, "dossiers:write"),
		op("dossiers.archive", "DELETE /dossiers/:", archiveDossier, "dossiers:write"),
		op("dossiers.upload_cv", "POST /dossiers/:/cv", uploadCV, "dossiers:write"),
		op("contacts.list", "GET /contacts", listContacts, "contacts:read"),
		op("contacts.create", "POST /contacts", createContact, "contacts:write"),
		op("contacts.get", "GET /contacts/:", getContact, "contacts:read"),
		op("contacts.update", "PATCH /contacts/:", updateContact, "contacts:write"),
		op("contacts.delete", "DELETE /contacts/:", deleteContact, "contacts:write"),
		op("links.list", "GET /dossiers/:/contacts", listLinks, "contacts:read"),
		op("links.create", "POST /dossiers/:/contacts", createLink, "contacts:write", "dossiers:write"),
		op("links.delete", "DELETE /dossiers/:/contacts/:", deleteLink, "contacts:write", "dossiers:write"),
		op("flows.list", "GET /flows", listFlows, "flows:read"),
		op("stages.list", "GET /flows/:/stages", listStages, "flows:read"),
		op("notes.list", "GET /dossiers/:/notes", listNotes, "notes:read"),
		op("notes.create", "POST /dossiers/:/notes", createNote, "notes:write"),
	}
}

func op(name, methodAndPath string, run func(*call) (answer, error), scopes ...string) operation {
	method, path, _ := strings.Cut(methodAndPath, " /")
	return operation{name, method, strings.Split(path, "/"), scopes, run}
}

// route finds the operation for a path below the base, and the ids in it; otherwise the methods the path has.
func route(method, escaped string) (found *operation, ids []string, allowed []string) {
	parts := strings.Split(escaped, "/")
	for i := range operations {
		o := &operations[i]
		args, ok := o.matches(parts)
		if !ok {
			continue
		}
		if o.method == method {
			return o, args, nil
		}
		allowed = append(allowed, o.method)
	}
	return nil, nil, allowed
}

func (o *operation) matches(parts []string) (ids []string, ok bool) {
	if len(parts) != len(o.path) {
		return nil, false
	}
	for i, want := range o.path {
		if want != ":" {
			if parts[i] != want {
				return nil, false
			}
			continue
		}
		id, err := url.PathUnescape(parts[i])
		if err != nil || id == "" {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}

// one writes {"data": object}; wrote says that it answers a write, not a GET.
func (c *call) one(status int, table, id string, wrote bool, each func(visit)) answer {
	hidden := c.settings.omitRead
	if wrote {
		hidden = c.settings.omitWrite
	}
	w := c.settings.Habits.writer(hidden, c.rng)
	w.buf = append(w.buf, `{"data":`...)
	w.object(table, id, each)
	w.buf = append(w.buf, "}\n"...)
	return answer{status, w.buf}
}

// deleted is the answer to a DELETE that leaves nothing to show.
func (c *call) deleted(id string) answer {
	if c.settings.Habits.EmptyDeletes {
		return answer{status: http.StatusNoContent}
	}
	body := appendText([]byte(`{"data":{"id":`), id)
	return answer{http.StatusOK, append(body, `,"deleted":true}}`+"\n"...)}
}
