package leadgridtest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/brianvoe/gofakeit/v7"
)

// The people and firms a Dutch or Belgian agency has in its files. gofakeit knows neither their names nor
// their towns; it lends the international ones.
var (
	firstNames = strings.Fields(`Daan Sem Lucas Levi Finn Noah Bram Milan Thijs Jesse Lars Ruben Sander Jeroen Maarten Joost
		Pieter Wouter Koen Stijn Bart Wim Emma Julia Sophie Lotte Fleur Sanne Anouk Femke Marieke Ilse Iris Eva Tess Lieke
		Noor Anna Sara Lisa Roos Nina Louise Camille Charlotte Manon Amélie Élise Océane Hugo Louis Arthur Jules Gaël Théo
		Mohamed Youssef Fatima Yasmine Ayşe Mehmet Agnieszka Piotr Dirk Geert Els Griet Joke Chantal Benoît Guillaume`)
	lastNames = strings.Split(`de Jong,Jansen,de Vries,van den Berg,van Dijk,Bakker,Janssen,Visser,Smit,Meijer,de Boer,Mulder,
		de Groot,Bos,Vos,Peters,Hendriks,van Leeuwen,Dekker,Brouwer,de Wit,Dijkstra,Smits,van der Meer,van 't Hoff,Kok,
		Peeters,Maes,Jacobs,Mertens,Willems,Claes,Goossens,Wouters,De Smet,Vermeulen,Van Damme,Vandenberghe,D'Hondt,
		Lambert,Dupont,Dubois,Leclercq,Lefèvre,Desmet,Simon,Laurent,El Amrani,Yılmaz,Bouzid,Öztürk,Kowalska,Nguyễn`, ",")
	cities = strings.Split(`Amsterdam,Rotterdam,Den Haag,Utrecht,Eindhoven,Groningen,Tilburg,Breda,Nijmegen,Arnhem,Haarlem,
		Zwolle,Leiden,Maastricht,'s-Hertogenbosch,Antwerpen,Gent,Brussel,Brugge,Leuven,Mechelen,Hasselt,Kortrijk,Liège,
		Namur,Charleroi,Mons,Louvain-la-Neuve`, ",")
	companies = strings.Split(`Van Houten Logistiek,Noordzee Energie,Delta Bouw,Rijnmond Techniek,Kempen Software,Polder & Partners,
		Zuiderzee Zorg,De Gouden Tulp,Maasvlakte Transport,Brabant Metaal,Veluwe Foods,Amstel Finance,Schelde Chemie,
		Vlaamse Bouwgroep,Ardennes Conseil,Atelier Meuse,Brouwerij De Klok,Gentse Ateliers,Leie Textiel,Antwerp Diamond Tech,
		Hoge Kempen IT,Wadden Water,Oranje Uitzend,Zilt & Zoet Horeca,Sint-Lucas Ziekenhuis,Randstad Noord Recycling,
		Cargo Zaventem,Bureau Légal Dubois,Hanze Data,Twente Robotics`, ",")
	suffixes = []string{"B.V.", "N.V.", "BV", "SRL", "VOF", "Groep", "Holding"}
	roles    = strings.Split(`Java-ontwikkelaar,Verpleegkundige,Projectleider Bouw,Accountmanager,HR-adviseur,Data-engineer,Lasser,
		Financieel controller,Werkvoorbereider,Marketeer,Chauffeur CE,Scrum master,Juridisch medewerker,Inkoper,
		Productieplanner,Comptable,Ingénieur qualité,Chef de chantier,DevOps engineer,UX designer,Operations manager,
		Zaakvoerder,Directeur,CFO,Hoofd Personeelszaken,Talent acquisition lead`, ",")
	remarks = strings.Split(`Belde vandaag, zeer enthousiast over de rol.|Gesprek gepland voor volgende week dinsdag om 10.00 uur.|
		Salarisindicatie € 4.200 bruto per maand, 32 uur.|Referenties nagebeld: betrouwbaar en zelfstandig.|
		Kandidaat heeft ook een ander aanbod; snel schakelen!|Wil niet verder reizen dan 45 minuten.|Voicemail ingesproken.|
		CV ontvangen, ziet er goed uit. Rijbewijs B, eigen vervoer.|Offerte verstuurd, reactie verwacht vóór vrijdag.|
		Klant vraagt korting van 10% bij drie plaatsingen.|Contract getekend teruggekregen 🎉|
		Spoke to the hiring manager, budget is approved.|Second interview went well; feedback tomorrow.|
		Needs a sponsor inside finance before we can close.|On holiday until the 14th, call back after.|
		Très bon entretien, disponible à partir de septembre.|Le client souhaite une clause d'exclusivité.|
		À relancer la semaine prochaine.|Permis de travail vérifié.|Parle français et néerlandais, anglais moyen.|
		Eerste kennismaking: "past goed bij het team".
Nog te bespreken:
- opzegtermijn
- leaseauto|Assessment afgerond, score boven gemiddeld.`, "|")
	colors = []string{"#3b82f6", "#10b981", "#f59e0b", "#ef4444", "#8b5cf6", "#64748b"}
)

func init() {
	for _, list := range [][]string{lastNames, cities, companies, roles, remarks} {
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
	}
}

// invention makes up believable data; the same seed makes up the same.
type invention struct {
	rng      *rand.Rand
	faker    *gofakeit.Faker
	domains  map[string]string
	firms    []*string // shared by all rows that name them
	towns    []*string
	jobs     []*string
	people   []*string // user ids
	currency *string
}

func newInvention(rng *rand.Rand) *invention {
	v := &invention{rng: rng, faker: gofakeit.NewFaker(rng, false), domains: map[string]string{}, currency: &euro}
	for range 120 {
		firm := pick(rng, companies) + " " + pick(rng, suffixes)
		if rng.IntN(5) == 0 {
			firm = v.faker.Company()
		}
		v.firms = append(v.firms, &firm)
	}
	for i := range cities {
		v.towns = append(v.towns, &cities[i])
	}
	for i := range roles {
		v.jobs = append(v.jobs, &roles[i])
	}
	for range 12 {
		id := v.faker.UUID()
		v.people = append(v.people, &id)
	}
	return v
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// maybe gives a value in that percentage of cases, otherwise null.
func maybe[T any](rng *rand.Rand, percent int, value func() *T) *T {
	if rng.IntN(100) >= percent {
		return nil
	}
	return value()
}

func (v *invention) name() string {
	if v.rng.IntN(12) == 0 {
		return v.faker.FirstName() + " " + v.faker.LastName()
	}
	return pick(v.rng, firstNames) + " " + pick(v.rng, lastNames)
}

// email is unique: the number tells namesakes apart.
func (v *invention) email(name string, n int) *string {
	var local strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z':
			local.WriteRune(r)
		case r == ' ':
			local.WriteByte('.')
		default:
			if plain := strings.IndexRune("éèëêôöïışçğüễ", r); plain >= 0 {
				local.WriteByte("eeeeooiiscgue"[len([]rune("éèëêôöïışçğüễ"[:plain]))])
			}
		}
	}
	text := fmt.Sprintf("%s%d@%s", local.String(), n, pick(v.rng, []string{"example.nl", "example.be", "mail.example.com", "example.org"}))
	return &text
}

func (v *invention) phone() *string {
	text := fmt.Sprintf("+316%08d", v.rng.IntN(100_000_000))
	if v.rng.IntN(3) == 0 {
		text = fmt.Sprintf("+324%08d", v.rng.IntN(100_000_000))
	}
	return &text
}

// deal is a deal's size in whole euros, now and then with cents.
func (v *invention) deal() *number {
	size := number(fmt.Sprintf("%d", 500*(1+v.rng.IntN(300))))
	if v.rng.IntN(8) == 0 {
		size += number(fmt.Sprintf(".%02d", v.rng.IntN(100)))
	}
	return &size
}

func (v *invention) remark() string { return pick(v.rng, remarks) }
