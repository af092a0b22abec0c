package leadgridtest

import (
	"context"
	"slices"
	"time"
)

// Edits are the kinds of edit that [Organization.Stir] makes.
var Edits = []string{
	"dossier.create", "dossier.update", "dossier.move", "dossier.archive", "dossier.restore", "dossier.remove",
	"contact.create", "contact.update", "contact.remove", "link", "unlink", "note.add", "note.edit", "note.remove", "stage.update",
}

// weights of the edits, in a hundred or so, as an agency's day might have them.
var weights = map[string]int{
	"dossier.create": 8, "dossier.update": 25, "dossier.move": 22, "dossier.archive": 3, "dossier.restore": 1, "dossier.remove": 1,
	"contact.create": 5, "contact.update": 8, "contact.remove": 1, "link": 6, "unlink": 2,
	"note.add": 16, "note.edit": 2, "note.remove": 1, "stage.update": 1,
}

// Live makes believable edits at a rate until the context ends.
func (o *Organization) Live(ctx context.Context, perSecond float64) {
	if perSecond <= 0 {
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			o.Stir(1)
		}
	}
}

// Stir makes n believable edits, of the kinds named or of all. Which ones follows from the seed.
func (o *Organization) Stir(n int, kinds ...string) {
	if len(kinds) == 0 {
		kinds = Edits
	}
	var lots []string
	for _, kind := range kinds {
		lots = append(lots, slices.Repeat([]string{kind}, weights[kind])...)
	}
	for range n {
		o.alter(func(c *change) {
			if c.imagination == nil {
				c.imagination = newInvention(c.fancy)
			}
			g := &generator{change: c, invention: c.imagination}
			g.byType()
			g.stir(pick(c.fancy, lots))
		})
	}
}

// stir makes one edit; without anything to edit it does nothing.
func (g *generator) stir(kind string) {
	rng := g.fancy
	d, person := g.state.dossiers.random(rng), g.state.contacts.random(rng)
	switch kind {
	case "dossier.create":
		made := g.dossier(g.state.dossiers.stored)
		made.status, made.cvURL, made.created, made.updated = "active", nil, g.now, g.now
		g.do(func(s *state) { s.dossiers.put(made.id, made) })
		g.fire("dossier.created", made, nil)
		return
	case "contact.create":
		made := g.contact(g.state.contacts.stored)
		made.created = g.now
		g.do(func(s *state) { s.putContact(made) })
		return
	case "stage.update":
		if f := g.state.flows.random(rng); f != nil && len(f.row.stages) > 0 {
			stages := slices.Clone(f.row.stages)
			stages[rng.IntN(len(stages))].deadlineDays = whole(1 + rng.IntN(30))
			g.storeStages(f.row, stages)
		}
		return
	case "contact.update", "contact.remove":
		if person != nil {
			g.stirContact(kind, person)
		}
		return
	}
	if d != nil {
		g.stirDossier(kind, d, person)
	}
}

func (g *generator) stirContact(kind string, person *slot[contact]) {
	if kind == "contact.remove" {
		g.removeContact(person.id)
		return
	}
	other := g.contact(g.state.contacts.stored)
	fields := Fields{"city": text(other.city), "role": text(other.role), "pool": other.pool}
	if g.fancy.IntN(3) == 0 {
		fields["phone"], fields["kind"] = text(other.phone), other.kinds
	}
	_, _ = g.updateContact(person.row, fields) // what is refused is no edit
}

// edit changes a dossier. What is refused is no edit.
func (g *generator) edit(d *slot[dossier], fields Fields) {
	_, _, _ = g.updateDossier(d.row, fields)
}

func (g *generator) stirDossier(kind string, d *slot[dossier], person *slot[contact]) {
	rng := g.fancy
	switch kind {
	case "dossier.update":
		other := g.dossier(0)
		fields := Fields{"phone": text(other.phone), "assigned_to": text(other.assignedTo)}
		switch rng.IntN(4) {
		case 0:
			fields["intake_notes"] = text(other.intakeNotes)
		case 1:
			fields["status"] = pick(rng, dossierStatuses[:3])
		case 2:
			fields["city"], fields["role"] = text(other.city), text(other.role)
		case 3:
			if d.row.typ == "sales" {
				fields["deal_size"] = plain(g.deal())
			}
		}
		g.edit(d, fields)
	case "dossier.move":
		if d.row.flowID == nil {
			return
		}
		if f := g.state.flows.get(*d.row.flowID); f != nil && len(f.row.stages) > 0 {
			g.edit(d, Fields{"current_stage_id": pick(rng, f.row.stages).id})
		}
	case "dossier.archive":
		g.edit(d, Fields{"status": "archived"})
	case "dossier.restore":
		if d.row.status == "archived" {
			g.edit(d, Fields{"status": "active"})
		}
	case "dossier.remove":
		delete(g.cvs, d.id)
		g.do(func(s *state) { s.removeDossier(d.id) })
	case "link":
		if person != nil {
			g.link(&link{d.id, person.id, pick(rng, linkRoles), rng.IntN(3) == 0})
		}
	case "unlink":
		if len(d.links) > 0 {
			g.unlink(pick(rng, d.links))
		}
	case "note.add":
		g.addNote(d, g.remark(), rng.IntN(4) > 0)
	case "note.edit", "note.remove":
		if len(d.notes) == 0 {
			return
		}
		notes, i := slices.Clone(d.notes), rng.IntN(len(d.notes))
		if kind == "note.edit" {
			notes[i].content = g.remark() + " (aangevuld)"
		} else {
			notes = slices.Delete(notes, i, i+1)
		}
		g.storeNotes(d.id, notes)
	}
}

func text(s *string) any { return plain(s) }
