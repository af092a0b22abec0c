package leadgridtest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func listDossiers(c *call) (got answer, err error) {
	query := c.r.URL.Query()
	typ, err := choice(query, "type", dossierTypes[:2])
	if err != nil {
		return answer{}, err
	}
	status, err := choice(query, "status", dossierStatuses[:4])
	if err != nil {
		return answer{}, err
	}
	f := filter[dossier]{classes: dossierClasses(typ, status, c.settings.Habits.HideArchived)}
	if stage := query.Get("stage_id"); stage != "" {
		f.match = func(s *slot[dossier]) bool { return s.row.stageID != nil && *s.row.stageID == stage }
	}
	err = c.organization.view(c.lag, func(s *state) (err error) {
		got, err = listTable(c, s.dossiers, f, func(d *slot[dossier], w *writer) {
			w.object(Dossiers, d.id, func(v visit) { d.row.each(c.organization.id, v) })
		})
		return err
	})
	return got, err
}

// dossierClasses are the classes a list wants; nil means all.
func dossierClasses(typ, status string, hideArchived bool) []int {
	if typ == "" && status == "" && !hideArchived {
		return nil
	}
	classes := []int{}
	for i, t := range dossierTypes {
		for j, s := range dossierStatuses {
			if (typ == "" || t == typ) && (status == "" && !(hideArchived && s == "archived") || s == status && s != "") {
				classes = append(classes, i*len(dossierStatuses)+j)
			}
		}
	}
	return classes
}

func getDossier(c *call) (got answer, err error) {
	err = c.organization.view(c.lag, func(s *state) error {
		d := s.dossiers.get(c.args[0])
		if d == nil {
			return errNotFound
		}
		got = c.dossier(http.StatusOK, d.row, false)
		return nil
	})
	return got, err
}

func (c *call) dossier(status int, d *dossier, wrote bool) answer {
	return c.one(status, Dossiers, d.id, wrote, func(v visit) { d.each(c.organization.id, v) })
}

func createDossier(c *call) (got answer, err error) {
	var body Fields
	var cv []byte
	if c.mediaType() == "multipart/form-data" {
		body, cv, err = c.form()
	} else {
		body, err = c.jsonBody()
	}
	if err != nil {
		return answer{}, err
	}
	fields, err := check(body, dossierInputs, false)
	if err == nil && fields["type"] == "candidate" {
		err = salesOnly(fields)
	}
	if err == nil && cv != nil {
		err = checkCV(cv)
	}
	if err != nil {
		return answer{}, err
	}
	uploadFails := cv != nil && c.rng.Float64() < c.settings.Faults.UploadFails
	if uploadFails && !c.settings.Habits.LeavesFailedCreates {
		return answer{}, errInternal
	}
	err = c.organization.edit(func(e *change) error {
		d, err := e.createDossier(fields)
		if err != nil {
			return err
		}
		c.created(d.id, fields)
		if uploadFails {
			e.fire("dossier.created", d, nil)
			return errInternal
		}
		if cv != nil {
			// The CV is part of the create: one row version, and only dossier.created fires.
			with := *d
			path := e.storeCV(d.id, cv)
			with.cvURL = &path
			e.do(func(s *state) { s.dossiers.put(with.id, &with) })
			d = &with
		}
		e.fire("dossier.created", d, nil)
		got = c.dossier(http.StatusCreated, d, true)
		return nil
	})
	return got, err
}

// created books an executed create.
func (c *call) created(id string, fields Fields) {
	c.acted = true
	body, _ := json.Marshal(fields)
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.create(Create{s.opts.Now(), c.operation.name, id, c.organization.id, string(body)})
}

func salesOnly(fields Fields) error {
	for _, in := range dossierInputs {
		if in.sales && fields[in.key] != nil {
			return invalid("%s is only for sales dossiers", in.key)
		}
	}
	return nil
}

// createDossier stores a dossier on the first stage of its flow. It does not fire: its caller knows when it
// is complete.
func (c *change) createDossier(fields Fields) (*dossier, error) {
	d := &dossier{status: "active", created: c.now, updated: c.now}
	for key, value := range fields {
		if err := d.set(key, value); err != nil {
			return nil, err
		}
	}
	f, err := c.flowFor(d)
	if err != nil {
		return nil, err
	}
	if f != nil {
		d.flowID = &f.id
		if d.stageID == nil && len(f.stages) > 0 {
			d.stageID = &f.stages[0].id
		}
	}
	if d.dealSize != nil && d.dealCurrency == nil {
		d.dealCurrency = &euro
	}
	if d.contactID != nil && c.state.contacts.get(*d.contactID) == nil {
		return nil, invalid("contact_id is not a contact of this organization")
	}
	if d.contactID == nil && c.settings.Habits.CreateMakesContact {
		d.contactID = c.contactFor(d)
	}
	d.id = c.newID("dossier")
	c.do(func(s *state) { s.dossiers.put(d.id, d) })
	if d.contactID != nil {
		l := &link{dossierID: d.id, contactID: *d.contactID, role: "primary", primary: true}
		c.do(func(s *state) { s.putLink(l) })
	}
	return d, nil
}

var euro = "EUR"

// flowFor is the flow a new dossier names, or the default one of its type; nil when there is none.
func (c *change) flowFor(d *dossier) (*flow, error) {
	if d.flowID != nil {
		s := c.state.flows.get(*d.flowID)
		if s == nil || s.row.typ != d.typ {
			return nil, invalid("flow_id is not a flow for a %s dossier", d.typ)
		}
		return s.row, nil
	}
	var found *flow
	c.state.flows.created.walk(filter[flow]{}, 0, false, func(s *slot[flow]) bool {
		if s.row.typ == d.typ && (found == nil || s.row.isDefault && !found.isDefault) {
			found = s.row
		}
		return true
	})
	return found, nil
}

// contactFor makes the contact of a new dossier, or finds it by its e-mail.
func (c *change) contactFor(d *dossier) *string {
	if d.email != nil {
		if id := c.state.emails[strings.ToLower(*d.email)]; id != "" {
			return &id
		}
	}
	kind, name := "candidate", d.name
	if d.typ == "sales" {
		kind = "prospect"
		if d.contactPerson != nil {
			name = *d.contactPerson
		}
	}
	person := &contact{
		id: c.newID("contact"), name: name, email: d.email, phone: d.phone, company: d.company, role: d.role,
		city: d.city, kinds: []string{kind}, created: c.now,
	}
	c.do(func(s *state) { s.putContact(person) })
	return &person.id
}

func updateDossier(c *call) (got answer, err error) {
	body, err := c.jsonBody()
	if err != nil {
		return answer{}, err
	}
	if err := c.nulls(body); err != nil {
		return answer{}, err
	}
	fields, err := check(body, dossierInputs, true)
	if err != nil {
		return answer{}, err
	}
	err = c.organization.edit(func(e *change) error {
		s := e.state.dossiers.get(c.args[0])
		if s == nil {
			return errNotFound
		}
		if s.row.typ == "candidate" {
			if err := salesOnly(fields); err != nil {
				return err
			}
		}
		if stage, ok := fields["current_stage_id"].(string); ok && !e.hasStage(s.row, stage) {
			return invalid("current_stage_id is not a stage of the dossier's flow")
		}
		d, changed, err := e.updateDossier(s.row, fields)
		if err != nil {
			return err
		}
		c.acted = changed
		got = c.dossier(http.StatusOK, d, true)
		return nil
	})
	return got, err
}

// nulls does to the nulls of a PATCH what the habit says.
func (c *call) nulls(body Fields) error {
	for key, value := range maps.Clone(body) {
		if value != nil || key == "assigned_to" {
			continue
		}
		switch c.settings.Habits.PatchNull {
		case "ignored":
			delete(body, key)
		case "refused":
			return invalid("%s cannot be null", key)
		}
	}
	return nil
}

func (c *change) hasStage(d *dossier, stage string) bool {
	if d.flowID == nil {
		return false
	}
	f := c.state.flows.get(*d.flowID)
	return f != nil && f.row.stage(stage) != nil
}

// updateDossier stores a changed version, if anything changes, and fires what that change fires.
func (c *change) updateDossier(old *dossier, fields Fields) (*dossier, bool, error) {
	d := *old
	for key, value := range fields {
		if err := d.set(key, value); err != nil {
			return nil, false, err
		}
	}
	if d.same(old) {
		return old, false, nil
	}
	d.updated = c.now
	c.do(func(s *state) { s.dossiers.put(d.id, &d) })
	c.fireUpdate(old, &d)
	return &d, true, nil
}

// fireUpdate fires the events that the difference between two versions fires.
func (c *change) fireUpdate(old, d *dossier) {
	var causes []string
	moved := !equal(old.stageID, d.stageID)
	if moved {
		causes = append(causes, "stage")
	}
	if old.status != d.status {
		switch "archived" {
		case d.status:
			causes = append(causes, "archive")
		case old.status:
			causes = append(causes, "restore")
		}
	}
	rest := *d
	rest.stageID = old.stageID
	if causes != nil && old.status != d.status && (d.status == "archived" || old.status == "archived") {
		rest.status = old.status
	}
	if !rest.same(old) {
		causes = append(causes, "field")
	}
	c.fireUpdated(d, causes...)
	if moved {
		c.fire("dossier.stage_changed", d, nil)
	}
	if slices.Contains(causes, "archive") {
		c.fire("dossier.deleted", d, nil)
	}
}

// fireUpdated fires dossier.updated if one of the causes does so here.
func (c *change) fireUpdated(d *dossier, causes ...string) {
	on := c.settings.Habits.UpdatedOn
	if len(on) == 0 {
		on = []string{"field", "stage", "restore", "cv"}
	}
	if slices.ContainsFunc(causes, func(cause string) bool { return slices.Contains(on, cause) }) {
		c.fire("dossier.updated", d, nil)
	}
}

func archiveDossier(c *call) (got answer, err error) {
	err = c.organization.edit(func(e *change) error {
		s := e.state.dossiers.get(c.args[0])
		if s == nil {
			return errNotFound
		}
		d, changed, err := e.updateDossier(s.row, Fields{"status": "archived"})
		if err != nil {
			return err
		}
		c.acted = changed
		got = c.dossier(http.StatusOK, d, true)
		if c.settings.Habits.EmptyDeletes {
			got = answer{status: http.StatusNoContent}
		}
		return nil
	})
	return got, err
}

func uploadCV(c *call) (got answer, err error) {
	cv, err := c.cvBody()
	if err == nil {
		err = checkCV(cv)
	}
	if err != nil {
		return answer{}, err
	}
	if c.rng.Float64() < c.settings.Faults.UploadFails {
		return answer{}, errInternal
	}
	err = c.organization.edit(func(e *change) error {
		s := e.state.dossiers.get(c.args[0])
		if s == nil {
			return errNotFound
		}
		d := e.uploadCV(s.row, cv)
		c.acted = true
		got = c.dossier(http.StatusOK, d, true)
		return nil
	})
	return got, err
}

func (c *change) uploadCV(old *dossier, cv []byte) *dossier {
	d := *old
	path := c.storeCV(d.id, cv)
	d.cvURL, d.updated = &path, c.now
	c.do(func(s *state) { s.dossiers.put(d.id, &d) })
	c.fireUpdated(&d, "cv")
	return &d
}
