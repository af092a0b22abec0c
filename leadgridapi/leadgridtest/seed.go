package leadgridtest

import (
	"strings"
	"time"
)

// Size says how much data to make up.
type Size struct {
	Dossiers int
	Contacts int
	Links    int
	Notes    int
	Flows    int     // beyond the four there always are
	Odd      float64 // share of dossiers and contacts that hold what nobody expects: unknown statuses, NUL characters, numbers beyond any float
}

// Seed fills the organization with made-up data, the same for the same seed and the same calls before it.
// The data is up to two years old and fires no webhooks.
func (o *Organization) Seed(size Size) {
	o.alter(func(c *change) {
		g := &generator{change: c, invention: newInvention(c.fancy), size: size}
		g.flows()
		g.contacts()
		g.dossiers()
		g.links()
		g.notes()
		// Made without steps for a replica, which starts over from what there is now.
		if c.replica != nil {
			c.replica, c.pending = c.state.clone(), nil
		}
	})
}

// generator makes up rows and stores them, replica or not.
type generator struct {
	*change
	*invention
	size Size
	made []string // dossiers
	flow map[string][]*flow
}

// ago is the time of the i-th of n rows: the first two years ago, the last just before now.
func (g *generator) ago(i, n int) instant {
	span := int64(2 * 365 * 24 * time.Hour / time.Microsecond)
	at := int64(g.now) - span + span/int64(n+1)*int64(i)
	tick := precision(g.settings.Habits.Timestamps).Microseconds()
	return instant(at / tick * tick)
}

// flows makes two recruitment flows and two sales flows, and more of both if wanted.
func (g *generator) flows() {
	kinds := []struct {
		name, typ string
		stages    string
		win       []int
	}{
		{"Werving & selectie", "candidate", "Intake,Screening,Gesprek,Aanbod,Geplaatst", nil},
		{"Uitzenden", "candidate", "Aangemeld,Gebeld,Voorgesteld,Proefdag,Aan het werk", nil},
		{"Nieuwe klanten", "sales", "Lead,Kwalificatie,Voorstel,Onderhandeling,Gewonnen", []int{5, 20, 45, 75, 100}},
		{"Détachement", "sales", "Prospect,Premier contact,Offre,Signature", []int{10, 25, 60, 90}},
	}
	for i := range len(kinds) + g.size.Flows {
		kind := kinds[i%len(kinds)]
		f := &flow{id: g.newID("flow"), name: kind.name, typ: kind.typ, isDefault: i == 0 || i == 2}
		if i >= len(kinds) {
			f.name += " " + pick(g.invention.rng, cities)
		}
		for n, name := range strings.Split(kind.stages, ",") {
			s := Stage{Name: name, Color: pick(g.invention.rng, colors)}
			if n < 3 {
				days := 2 + 3*n
				s.Deadline = &days
			}
			if kind.win != nil {
				s.Win = &kind.win[n]
			}
			f.stages = append(f.stages, g.newStage(f.stages, s))
		}
		g.state.flows.put(f.id, f)
	}
}

func (g *generator) contacts() {
	for i := range g.size.Contacts {
		c := g.contact(g.state.contacts.stored)
		c.created = g.ago(i, g.size.Contacts)
		if g.invention.rng.Float64() < g.size.Odd {
			oddContact(c, i)
		}
		g.state.putContact(c)
	}
}

// contact makes up a person; n tells namesakes' addresses apart.
func (g *generator) contact(n int) *contact {
	rng := g.invention.rng
	name := g.name()
	c := &contact{id: g.newID("contact"), name: name}
	c.email = maybe(rng, 92, func() *string { return g.email(name, n) })
	c.phone = maybe(rng, 80, g.phone)
	c.linkedin = maybe(rng, 45, func() *string {
		url := "https://www.linkedin.com/in/" + strings.ToLower(strings.ReplaceAll(name, " ", "-"))
		return &url
	})
	c.company = maybe(rng, 75, func() *string { return pick(rng, g.firms) })
	c.role = maybe(rng, 70, func() *string { return pick(rng, g.jobs) })
	c.city = maybe(rng, 70, func() *string { return pick(rng, g.towns) })
	c.notes = maybe(rng, 15, func() *string { return &remarks[rng.IntN(len(remarks))] })
	c.kinds = kindSets[rng.IntN(len(kindSets))]
	if c.kinds[0] == "candidate" {
		c.pool = pick(rng, pools)
	}
	return c
}

var kindSets = [][]string{
	{"candidate"}, {"candidate"}, {"candidate"}, {"prospect"}, {"client"}, {"client", "partner"}, {"supplier"},
	{"candidate", "client"}, {"prospect", "partner"},
}

func (g *generator) dossiers() {
	g.made = make([]string, 0, g.size.Dossiers)
	g.byType()
	for i := range g.size.Dossiers {
		d := g.dossier(i)
		d.created = g.ago(i, g.size.Dossiers)
		d.updated = d.created + instant(g.invention.rng.Int64N(int64(g.now-d.created)+1))
		tick := instant(precision(g.settings.Habits.Timestamps).Microseconds())
		d.updated = max(d.created, d.updated/tick*tick)
		if g.invention.rng.Float64() < g.size.Odd {
			oddDossier(d, i)
		}
		g.state.dossiers.put(d.id, d)
		g.made = append(g.made, d.id)
	}
}

// byType sorts the flows there are by their type.
func (g *generator) byType() {
	g.flow = map[string][]*flow{}
	g.state.flows.created.walk(filter[flow]{}, 0, false, func(s *slot[flow]) bool {
		g.flow[s.row.typ] = append(g.flow[s.row.typ], s.row)
		return true
	})
}

// dossier makes up a candidate or a deal on some stage of some flow.
func (g *generator) dossier(n int) *dossier {
	rng := g.invention.rng
	d := &dossier{id: g.newID("dossier"), typ: "candidate", status: "active"}
	switch p := rng.IntN(100); {
	case p >= 90:
		d.status = "archived"
	case p >= 80:
		d.status = "lost"
	case p >= 65:
		d.status = "won"
	}
	d.name = g.name()
	d.company = maybe(rng, 70, func() *string { return pick(rng, g.firms) })
	if rng.IntN(5) < 2 {
		d.typ = "sales"
		d.company = pick(rng, g.firms)
		d.contactPerson = maybe(rng, 80, func() *string { name := d.name; return &name })
		d.name = *d.company + " – " + *pick(rng, g.jobs)
		d.dealSize = maybe(rng, 85, g.deal)
		if d.dealSize != nil {
			d.dealCurrency = g.currency
		}
	} else {
		d.email = maybe(rng, 85, func() *string { return g.email(d.name, n) })
		if d.status == "active" && rng.IntN(4) == 0 {
			path := "cvs/" + g.id + "/" + d.id + "/cv.pdf"
			d.cvURL = &path
		}
	}
	d.phone = maybe(rng, 75, g.phone)
	d.city = maybe(rng, 80, func() *string { return pick(rng, g.towns) })
	d.role = maybe(rng, 75, func() *string { return pick(rng, g.jobs) })
	d.assignedTo = maybe(rng, 70, func() *string { return pick(rng, g.people) })
	d.intakeNotes = maybe(rng, 50, func() *string { return &remarks[rng.IntN(len(remarks))] })
	if flows := g.flow[d.typ]; len(flows) > 0 {
		f := pick(rng, flows)
		d.flowID = &f.id
		if len(f.stages) > 0 {
			d.stageID = &f.stages[rng.IntN(len(f.stages))].id
		}
	}
	return d
}

func (g *generator) links() {
	if g.size.Dossiers == 0 || g.state.contacts.created.live == 0 {
		return
	}
	rng := g.invention.rng
	for i := range g.size.Links {
		d := g.state.dossiers.get(g.made[i%len(g.made)])
		c := g.state.contacts.random(rng)
		l := &link{dossierID: d.id, contactID: c.id, role: pick(rng, linkRoles), primary: len(d.links) == 0}
		if l.primary && rng.IntN(2) == 0 {
			l.role = "primary"
		}
		if g.findLink(d.id, c.id) == nil {
			g.state.putLink(l)
		}
	}
}

func (g *generator) notes() {
	if len(g.made) == 0 {
		return
	}
	rng := g.invention.rng
	for i := range g.size.Notes {
		d := g.state.dossiers.get(pick(rng, g.made))
		d.notes = append(d.notes, note{
			id: g.newID("note"), content: g.remark(), internal: rng.IntN(4) > 0, created: g.ago(i, g.size.Notes),
		})
	}
}

// oddDossier puts in what the contract allows nobody to expect, a different thing for each n.
func oddDossier(d *dossier, n int) {
	text := func(s string) *string { return &s }
	size := func(s number) *number { return &s }
	switch n % 8 {
	case 0:
		d.status = "on_hold"
	case 1:
		d.typ = "freelance"
	case 2:
		d.name += "\x00!"
	case 3:
		d.intakeNotes = text("tab\tNUL\x00 \u2028 😀 \xed\xa0\x80 lone")
	case 4:
		d.dealSize = size("1e400")
	case 5:
		d.dealSize = size("12345678901234567890.123456789012345678")
	case 6:
		d.dealSize, d.dealCurrency = size("-0.10"), text("euro")
	case 7:
		d.company, d.city = text(""), text(strings.Repeat("lang ", 2000))
	}
}

func oddContact(c *contact, n int) {
	text := func(s string) *string { return &s }
	switch n % 4 {
	case 0:
		c.kinds = []string{"alumnus", "client"}
	case 1:
		c.name += "\x00"
	case 2:
		c.email = text("geen e-mail")
	case 3:
		c.kinds, c.notes = nil, text("\x00\xed\xb0\x80")
	}
}
