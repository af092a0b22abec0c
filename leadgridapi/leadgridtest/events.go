package leadgridtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// Event is a webhook event as it was fired.
type Event struct {
	ID, Type  string
	CreatedAt time.Time
	DossierID string // whatever the data says
	Data      json.RawMessage
	Dropped   bool // a fault: it was never sent
}

// event is one fired event; its created_at is written already.
type event struct {
	Event
	createdAt string
}

// body is the request body under an id.
func (e *event) body(id string) []byte {
	b := appendText([]byte(`{"id":`), id)
	b = appendText(append(b, `,"type":`...), e.Type)
	b = append(append(append(b, `,"created_at":`...), e.createdAt...), `,"data":`...)
	return append(append(b, e.Data...), '}')
}

// fire adds an event to the change. The data is what a GET would give at this instant, as far as the habits
// let it.
func (c *change) fire(kind string, d *dossier, n *note) {
	c.fireOne(kind, d, n)
	if c.settings.Habits.UnknownEvents {
		c.fireOne("dossier.viewed", d, nil)
	}
}

func (c *change) fireOne(kind string, d *dossier, n *note) {
	c.Organization.events++
	rng := rand.New(rand.NewPCG(c.server.opts.Seed^hash(c.id), uint64(c.Organization.events)))
	w := c.settings.Habits.writer(c.settings.omitRead, rng)
	table, name, each := Dossiers, "dossier", func(v visit) { d.each(c.id, v) }
	id := d.id
	if n != nil {
		of := d.id
		if c.settings.Habits.AnonymousNotes {
			of = ""
		}
		id, table, name = n.id, Notes, "note"
		each = func(v visit) { n.each(of, v) }
	}
	if c.settings.Habits.WebhookData == "ids" {
		each = onlyIDs(each)
	}
	if c.settings.Habits.WebhookData == "nested" {
		w.buf = append(w.buf, `{"`+name+`":`...)
		w.object(table, id, each)
		w.buf = append(w.buf, '}')
	} else {
		w.object(table, id, each)
	}
	data := w.buf
	w.buf = nil
	w.value("", c.now)
	c.events = append(c.events, event{
		Event: Event{
			ID: fmt.Sprintf("evt_%016x", rng.Uint64()), Type: kind, CreatedAt: c.now.time(), DossierID: d.id, Data: data,
		},
		createdAt: string(w.buf),
	})
}

// onlyIDs passes on the keys that name something.
func onlyIDs(each func(visit)) func(visit) {
	return func(v visit) {
		each(func(key string, value any) {
			switch key {
			case "id", "dossier_id", "flow_id", "current_stage_id":
				v(key, value)
			}
		})
	}
}

// signature is the value of X-LeadGrid-Signature.
func signature(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
