package leadgridtest

import (
	"net/http"
	"slices"
)

func listNotes(c *call) (got answer, err error) {
	err = c.organization.view(c.lag, func(s *state) (err error) {
		d := s.dossiers.get(c.args[0])
		if d == nil {
			return errNotFound
		}
		got, err = c.subList(len(d.notes), func(i int, w *writer) {
			n := &d.notes[i]
			w.object(Notes, n.id, func(v visit) { n.each(d.id, v) })
		})
		return err
	})
	return got, err
}

func createNote(c *call) (got answer, err error) {
	body, err := c.jsonBody()
	if err != nil {
		return answer{}, err
	}
	fields, err := check(body, noteInputs, false)
	if err != nil {
		return answer{}, err
	}
	internal := true
	if sent, ok := fields["is_internal"].(bool); ok {
		internal = sent
	}
	err = c.organization.edit(func(e *change) error {
		d := e.state.dossiers.get(c.args[0])
		if d == nil {
			return errNotFound
		}
		n := e.addNote(d, fields["content"].(string), internal)
		c.created(n.id, fields)
		got = c.one(http.StatusCreated, Notes, n.id, true, func(v visit) { n.each(d.id, v) })
		return nil
	})
	return got, err
}

func (c *change) addNote(d *slot[dossier], content string, internal bool) *note {
	n := note{id: c.newID("note"), content: content, internal: internal, created: c.now}
	c.storeNotes(d.id, append(slices.Clip(d.notes), n))
	c.fire("note.created", d.row, &n)
	c.fireUpdated(d.row, "note")
	return &n
}

// storeNotes replaces all notes of a dossier.
func (c *change) storeNotes(dossierID string, notes []note) {
	c.do(func(s *state) { s.dossiers.get(dossierID).notes = notes })
}
