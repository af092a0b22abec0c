package leadgridtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrMissing is returned for an edit of something that does not exist.
var ErrMissing = errors.New("leadgridtest: no such object")

// The edits below are what a person does in LeadGrid's own pages. They are not held to what the API
// accepts: any text will do for a status, a type, a role or a kind.

// CreateDossier adds a dossier, by default of type candidate, and returns its id.
func (o *Organization) CreateDossier(fields Fields) (id string, err error) {
	err = o.edit(func(c *change) error {
		all := Fields{"type": "candidate", "name": "New"}
		maps.Copy(all, fields)
		d, err := c.createDossier(all)
		if err != nil {
			return err
		}
		id = d.id
		c.fire("dossier.created", d, nil)
		return nil
	})
	return id, err
}

// UpdateDossier changes fields of a dossier, its status and stage included.
func (o *Organization) UpdateDossier(id string, fields Fields) error {
	return o.BulkUpdate([]string{id}, fields)
}

// BulkUpdate changes many dossiers at once: all of them get the same updated_at.
func (o *Organization) BulkUpdate(ids []string, fields Fields) error {
	return o.edit(func(c *change) error {
		for _, id := range ids {
			if c.state.dossiers.get(id) == nil {
				return fmt.Errorf("dossier %s: %w", id, ErrMissing)
			}
		}
		for _, id := range ids {
			if _, _, err := c.updateDossier(c.state.dossiers.get(id).row, fields); err != nil {
				return err
			}
		}
		return nil
	})
}

// MoveDossier moves a dossier to a stage.
func (o *Organization) MoveDossier(id, stageID string) error {
	return o.UpdateDossier(id, Fields{"current_stage_id": stageID})
}

// ArchiveDossier archives a dossier.
func (o *Organization) ArchiveDossier(id string) error {
	return o.UpdateDossier(id, Fields{"status": "archived"})
}

// RestoreDossier gives an archived dossier another status.
func (o *Organization) RestoreDossier(id, status string) error {
	return o.UpdateDossier(id, Fields{"status": status})
}

// UploadCV replaces a dossier's CV.
func (o *Organization) UploadCV(id string, content []byte) error {
	return o.editDossier(id, func(c *change, d *slot[dossier]) error {
		c.uploadCV(d.row, content)
		return nil
	})
}

// RemoveDossier removes a dossier for good, with its links and notes. It fires no event.
func (o *Organization) RemoveDossier(id string) error {
	return o.editDossier(id, func(c *change, d *slot[dossier]) error {
		delete(c.cvs, id)
		c.do(func(s *state) { s.removeDossier(id) })
		return nil
	})
}

// BackUpDossier returns a function that puts the dossier back as it is now, with its links and notes, updated_at included: what
// LeadGrid's support may do after a removal. It fires dossier.updated.
func (o *Organization) BackUpDossier(id string) (restore func() error, err error) {
	var saved slot[dossier]
	err = o.editDossier(id, func(_ *change, d *slot[dossier]) error {
		saved = *d
		return nil
	})
	return func() error {
		return o.edit(func(c *change) error {
			for _, l := range saved.links {
				if c.state.contacts.get(l.contactID) == nil {
					return fmt.Errorf("contact %s: %w", l.contactID, ErrMissing)
				}
			}
			c.do(func(s *state) {
				s.removeDossier(id)
				s.dossiers.put(id, saved.row)
				for _, l := range saved.links {
					s.putLink(l)
				}
				s.dossiers.get(id).notes = saved.notes
			})
			c.fire("dossier.updated", saved.row, nil)
			return nil
		})
	}, err
}

func (o *Organization) editDossier(id string, fn func(*change, *slot[dossier]) error) error {
	return o.edit(func(c *change) error {
		d := c.state.dossiers.get(id)
		if d == nil {
			return fmt.Errorf("dossier %s: %w", id, ErrMissing)
		}
		return fn(c, d)
	})
}

// CreateContact adds a contact and returns its id. Unlike the API it accepts an e-mail that exists.
func (o *Organization) CreateContact(fields Fields) (id string, err error) {
	err = o.edit(func(c *change) (err error) {
		all := Fields{"full_name": "New"}
		maps.Copy(all, fields)
		id, err = c.createContact(all)
		return err
	})
	return id, err
}

// UpdateContact changes fields of a contact; pool may be "in_pool", "expired" or nil.
func (o *Organization) UpdateContact(id string, fields Fields) error {
	return o.edit(func(c *change) error {
		s := c.state.contacts.get(id)
		if s == nil {
			return fmt.Errorf("contact %s: %w", id, ErrMissing)
		}
		_, err := c.updateContact(s.row, fields)
		return err
	})
}

// RemoveContact removes a contact for good, its links with it.
func (o *Organization) RemoveContact(id string) error {
	return o.edit(func(c *change) error {
		if c.state.contacts.get(id) == nil {
			return fmt.Errorf("contact %s: %w", id, ErrMissing)
		}
		c.removeContact(id)
		return nil
	})
}

// Link links a contact to a dossier, or changes the link there is.
func (o *Organization) Link(dossierID, contactID, role string, primary bool) error {
	return o.editDossier(dossierID, func(c *change, _ *slot[dossier]) error {
		if c.state.contacts.get(contactID) == nil {
			return fmt.Errorf("contact %s: %w", contactID, ErrMissing)
		}
		c.link(&link{dossierID, contactID, role, primary})
		return nil
	})
}

// Unlink removes the link between a dossier and a contact.
func (o *Organization) Unlink(dossierID, contactID string) error {
	return o.edit(func(c *change) error {
		l := c.findLink(dossierID, contactID)
		if l == nil {
			return fmt.Errorf("link %s|%s: %w", dossierID, contactID, ErrMissing)
		}
		c.unlink(l)
		return nil
	})
}

// AddNote adds a note to a dossier and returns its id.
func (o *Organization) AddNote(dossierID, content string, internal bool) (id string, err error) {
	err = o.editDossier(dossierID, func(c *change, d *slot[dossier]) error {
		id = c.addNote(d, content, internal).id
		return nil
	})
	return id, err
}

// EditNote rewrites a note. It fires no event.
func (o *Organization) EditNote(dossierID, noteID, content string) error {
	return o.editNotes(dossierID, noteID, func(notes []note, i int) []note {
		notes[i].content = content
		return notes
	})
}

// RemoveNote removes a note. It fires no event.
func (o *Organization) RemoveNote(dossierID, noteID string) error {
	return o.editNotes(dossierID, noteID, func(notes []note, i int) []note { return slices.Delete(notes, i, i+1) })
}

func (o *Organization) editNotes(dossierID, noteID string, fn func([]note, int) []note) error {
	return o.editDossier(dossierID, func(c *change, d *slot[dossier]) error {
		i := slices.IndexFunc(d.notes, func(n note) bool { return n.id == noteID })
		if i < 0 {
			return fmt.Errorf("note %s: %w", noteID, ErrMissing)
		}
		c.storeNotes(dossierID, fn(slices.Clone(d.notes), i))
		return nil
	})
}

// Stage describes a stage to add. Deadline and Win are left null when nil.
type Stage struct {
	Name     string
	Position int  // 0 means after the last
	Deadline *int // days
	Win      *int // percent
	Color    string
}

// CreateFlow adds a flow with stages and returns its id and theirs, in the order given.
func (o *Organization) CreateFlow(name, typ string, isDefault bool, stages ...Stage) (id string, stageIDs []string) {
	o.alter(func(c *change) {
		f := &flow{id: c.newID("flow"), name: name, typ: typ, isDefault: isDefault}
		var all []stage
		for _, s := range stages {
			all = append(all, c.newStage(all, s))
			stageIDs = append(stageIDs, all[len(all)-1].id)
		}
		c.storeStages(f, all)
		id = f.id
	})
	return id, stageIDs
}

func (c *change) newStage(before []stage, s Stage) stage {
	made := stage{id: c.newID("stage"), name: s.Name, position: s.Position}
	if made.position == 0 {
		made.position = 1
		for _, b := range before {
			made.position = max(made.position, b.position+1)
		}
	}
	if s.Deadline != nil {
		made.deadlineDays = whole(*s.Deadline)
	}
	if s.Win != nil {
		made.winProbability = whole(*s.Win)
	}
	if s.Color != "" {
		made.color = &s.Color
	}
	return made
}

// UpdateFlow changes a flow's name, type or is_default.
func (o *Organization) UpdateFlow(id string, fields Fields) error {
	return o.editFlow(id, func(c *change, old *flow) error {
		f := *old
		for key, value := range fields {
			var err error
			switch key {
			case "name":
				err = assign(&f.name, key, value)
			case "type":
				err = assign(&f.typ, key, value)
			case "is_default":
				var ok bool
				if f.isDefault, ok = value.(bool); !ok {
					err = fmt.Errorf("is_default wants a bool, not %T", value)
				}
			default:
				err = fmt.Errorf("a flow has no field %q that can be set", key)
			}
			if err != nil {
				return err
			}
		}
		c.do(func(s *state) { s.flows.put(id, &f) })
		return nil
	})
}

// RemoveFlow removes a flow with its stages. Dossiers keep the ids of what is gone.
func (o *Organization) RemoveFlow(id string) error {
	return o.editFlow(id, func(c *change, _ *flow) error {
		c.do(func(s *state) { s.flows.remove(id) })
		return nil
	})
}

// CreateStage adds a stage to a flow and returns its id.
func (o *Organization) CreateStage(flowID string, s Stage) (id string, err error) {
	err = o.editFlow(flowID, func(c *change, f *flow) error {
		made := c.newStage(f.stages, s)
		id = made.id
		c.storeStages(f, append(slices.Clone(f.stages), made))
		return nil
	})
	return id, err
}

// UpdateStage changes a stage's name, position, deadline_days, win_probability or color.
func (o *Organization) UpdateStage(flowID, stageID string, fields Fields) error {
	return o.editStage(flowID, stageID, func(stages []stage, i int) ([]stage, error) {
		s := &stages[i]
		for key, value := range fields {
			var err error
			switch key {
			case "name":
				err = assign(&s.name, key, value)
			case "position":
				var ok bool
				if s.position, ok = value.(int); !ok {
					err = fmt.Errorf("position wants an int, not %T", value)
				}
			case "deadline_days":
				err = assignNumber(&s.deadlineDays, key, value)
			case "win_probability":
				err = assignNumber(&s.winProbability, key, value)
			case "color":
				err = assignNullable(&s.color, key, value)
			default:
				err = fmt.Errorf("a stage has no field %q that can be set", key)
			}
			if err != nil {
				return nil, err
			}
		}
		return stages, nil
	})
}

// RemoveStage removes a stage. Dossiers on it keep its id.
func (o *Organization) RemoveStage(flowID, stageID string) error {
	return o.editStage(flowID, stageID, func(stages []stage, i int) ([]stage, error) {
		return slices.Delete(stages, i, i+1), nil
	})
}

func (o *Organization) editStage(flowID, stageID string, fn func([]stage, int) ([]stage, error)) error {
	return o.editFlow(flowID, func(c *change, f *flow) error {
		i := slices.IndexFunc(f.stages, func(s stage) bool { return s.id == stageID })
		if i < 0 {
			return fmt.Errorf("stage %s: %w", stageID, ErrMissing)
		}
		stages, err := fn(slices.Clone(f.stages), i)
		if err != nil {
			return err
		}
		c.storeStages(f, stages)
		return nil
	})
}

func (o *Organization) editFlow(id string, fn func(*change, *flow) error) error {
	return o.edit(func(c *change) error {
		f := c.state.flows.get(id)
		if f == nil {
			return fmt.Errorf("flow %s: %w", id, ErrMissing)
		}
		return fn(c, f.row)
	})
}

// ids of a table's rows, oldest first.
func ids[R any](o *Organization, of func(*state) *table[R]) []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	var all []string
	of(o.state).created.walk(filter[R]{}, 0, false, func(s *slot[R]) bool {
		all = append(all, s.id)
		return true
	})
	return all
}

// DossierIDs lists the dossiers' ids, oldest first.
func (o *Organization) DossierIDs() []string {
	return ids(o, func(s *state) *table[dossier] { return s.dossiers })
}

// ContactIDs lists the contacts' ids, oldest first.
func (o *Organization) ContactIDs() []string {
	return ids(o, func(s *state) *table[contact] { return s.contacts })
}

// FlowIDs lists the flows' ids, oldest first.
func (o *Organization) FlowIDs() []string {
	return ids(o, func(s *state) *table[flow] { return s.flows })
}

// StageIDs lists the ids of a flow's stages, by position.
func (o *Organization) StageIDs(flowID string) []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	f := o.state.flows.get(flowID)
	if f == nil {
		return nil
	}
	var all []string
	for _, s := range f.row.stages {
		all = append(all, s.id)
	}
	return all
}

// NoteIDs lists the ids of a dossier's notes, oldest first.
func (o *Organization) NoteIDs(dossierID string) []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	d := o.state.dossiers.get(dossierID)
	if d == nil {
		return nil
	}
	var all []string
	for _, n := range d.notes {
		all = append(all, n.id)
	}
	return all
}
