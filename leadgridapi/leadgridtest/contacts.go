package leadgridtest

import (
	"net/http"
	"slices"
	"strings"
)

func listContacts(c *call) (got answer, err error) {
	query := c.r.URL.Query()
	pool, err := choice(query, "pool", pools[:2])
	if err != nil {
		return answer{}, err
	}
	kinds := query["kind"]
	for _, kind := range kinds {
		if !slices.Contains(contactKinds, kind) {
			return answer{}, invalid("kind cannot be %q", kind)
		}
	}
	f := filter[contact]{classes: contactClasses(pool, kinds)}
	if search := strings.ToLower(query.Get("search")); search != "" {
		f.match = func(s *slot[contact]) bool { return s.row.mentions(search) }
	}
	err = c.organization.view(c.lag, func(s *state) (err error) {
		got, err = listTable(c, s.contacts, f, func(s *slot[contact], w *writer) {
			w.object(Contacts, s.id, func(v visit) { s.row.each(len(s.links), v) })
		})
		return err
	})
	return got, err
}

// contactClasses are the classes of contacts in a pool with any of the kinds; nil means all.
func contactClasses(pool string, kinds []string) []int {
	if pool == "" && len(kinds) == 0 {
		return nil
	}
	wanted := contactClass(&contact{kinds: kinds}) & (1<<len(contactKinds) - 1)
	classes := []int{}
	for i, p := range pools {
		if pool != "" && p != pool {
			continue
		}
		for bits := range 1 << len(contactKinds) {
			if wanted == 0 || bits&wanted != 0 {
				classes = append(classes, i<<len(contactKinds)|bits)
			}
		}
	}
	return classes
}

func (c *contact) mentions(lower string) bool {
	has := func(text *string) bool { return text != nil && strings.Contains(strings.ToLower(*text), lower) }
	return has(&c.name) || has(c.email) || has(c.company) || has(c.role)
}

func getContact(c *call) (got answer, err error) {
	err = c.organization.view(c.lag, func(s *state) error {
		found := s.contacts.get(c.args[0])
		if found == nil {
			return errNotFound
		}
		got = c.contact(http.StatusOK, found, false)
		return nil
	})
	return got, err
}

func (c *call) contact(status int, s *slot[contact], wrote bool) answer {
	return c.one(status, Contacts, s.id, wrote, func(v visit) { s.row.each(len(s.links), v) })
}

func createContact(c *call) (got answer, err error) {
	body, err := c.jsonBody()
	if err != nil {
		return answer{}, err
	}
	fields, err := check(body, contactInputs, false)
	if err != nil {
		return answer{}, err
	}
	err = c.organization.edit(func(e *change) error {
		if err := e.duplicate(fields, ""); err != nil {
			return err
		}
		id, err := e.createContact(fields)
		if err != nil {
			return err
		}
		c.created(id, fields)
		got = c.contact(http.StatusCreated, e.state.contacts.get(id), true)
		return nil
	})
	return got, err
}

// duplicate refuses an e-mail that another contact has.
func (c *change) duplicate(fields Fields, self string) error {
	email, ok := fields["email"].(string)
	if !ok {
		return nil
	}
	if id := c.state.emails[strings.ToLower(email)]; id != "" && id != self {
		return &failure{http.StatusConflict, "duplicate_contact", "A contact with this e-mail exists"}
	}
	return nil
}

func (c *change) createContact(fields Fields) (string, error) {
	person := &contact{created: c.now}
	for key, value := range fields {
		if err := person.set(key, value); err != nil {
			return "", err
		}
	}
	person.id = c.newID("contact")
	c.do(func(s *state) { s.putContact(person) })
	return person.id, nil
}

func updateContact(c *call) (got answer, err error) {
	body, err := c.jsonBody()
	if err != nil {
		return answer{}, err
	}
	if err := c.nulls(body); err != nil {
		return answer{}, err
	}
	fields, err := check(body, contactInputs, true)
	if err != nil {
		return answer{}, err
	}
	err = c.organization.edit(func(e *change) error {
		s := e.state.contacts.get(c.args[0])
		if s == nil {
			return errNotFound
		}
		if err := e.duplicate(fields, s.id); err != nil {
			return err
		}
		if c.acted, err = e.updateContact(s.row, fields); err != nil {
			return err
		}
		got = c.contact(http.StatusOK, s, true)
		return nil
	})
	return got, err
}

func (c *change) updateContact(old *contact, fields Fields) (changed bool, err error) {
	person := *old
	for key, value := range fields {
		if err := person.set(key, value); err != nil {
			return false, err
		}
	}
	if person.same(old) {
		return false, nil
	}
	c.do(func(s *state) { s.putContact(&person) })
	return true, nil
}

func deleteContact(c *call) (answer, error) {
	err := c.organization.edit(func(e *change) error {
		if e.state.contacts.get(c.args[0]) == nil {
			return errNotFound
		}
		e.removeContact(c.args[0])
		c.acted = true
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	return c.deleted(c.args[0]), nil
}

func (c *change) removeContact(id string) {
	c.do(func(s *state) { s.removeContact(id) })
}
