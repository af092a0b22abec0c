package leadgridtest

import "net/http"

func listLinks(c *call) (got answer, err error) {
	err = c.organization.view(c.lag, func(s *state) (err error) {
		d := s.dossiers.get(c.args[0])
		if d == nil {
			return errNotFound
		}
		links := arrange(d.links, c.settings.Habits.Order, func(l *link) string { return l.contactID }, c.rng)
		got, err = c.subList(len(links), func(i int, w *writer) {
			l := links[i]
			w.object(Links, l.contactID, func(v visit) { l.each(s.contacts.get(l.contactID).row, v) })
		})
		return err
	})
	return got, err
}

func createLink(c *call) (got answer, err error) {
	body, err := c.jsonBody()
	if err != nil {
		return answer{}, err
	}
	fields, err := check(body, linkInputs, false)
	if err != nil {
		return answer{}, err
	}
	primary, _ := fields["is_primary"].(bool)
	l := &link{
		dossierID: c.args[0], contactID: fields["contact_id"].(string),
		role: fields["role_on_dossier"].(string), primary: primary,
	}
	err = c.organization.edit(func(e *change) error {
		person := e.state.contacts.get(l.contactID)
		if e.state.dossiers.get(l.dossierID) == nil || person == nil {
			return errNotFound
		}
		e.link(l)
		c.created(l.dossierID+"|"+l.contactID, fields)
		got = c.one(http.StatusCreated, Links, l.contactID, true, func(v visit) { l.each(person.row, v) })
		return nil
	})
	return got, err
}

// link stores a link; a new primary one demotes the old.
func (c *change) link(l *link) {
	d := c.state.dossiers.get(l.dossierID)
	if l.primary {
		for _, old := range d.links {
			if old.primary && old.contactID != l.contactID {
				demoted := *old
				demoted.primary = false
				c.do(func(s *state) { s.putLink(&demoted) })
			}
		}
	}
	c.do(func(s *state) { s.putLink(l) })
	c.fireUpdated(d.row, "link")
}

func deleteLink(c *call) (answer, error) {
	err := c.organization.edit(func(e *change) error {
		l := e.findLink(c.args[0], c.args[1])
		if l == nil {
			return errNotFound
		}
		e.unlink(l)
		c.acted = true
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return c.deleted(c.args[1]), nil
}

func (c *change) findLink(dossierID, contactID string) *link {
	if d := c.state.dossiers.get(dossierID); d != nil {
		for _, l := range d.links {
			if l.contactID == contactID {
				return l
			}
		}
	}
	return nil
}

func (c *change) unlink(l *link) {
	c.do(func(s *state) { s.removeLink(l) })
	c.fireUpdated(c.state.dossiers.get(l.dossierID).row, "link")
}
