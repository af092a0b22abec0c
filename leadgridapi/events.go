package leadgridapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The documented types of [Event]. More may come.
const (
	EventDossierCreated      = "dossier.created"
	EventDossierUpdated      = "dossier.updated"
	EventDossierStageChanged = "dossier.stage_changed"
	EventDossierDeleted      = "dossier.deleted" // archived
	EventNoteCreated         = "note.created"
)

// ErrOddEvent means that a webhook's body is not an event that can be relied on,
// however authentic it is. What it wraps says why, without quoting the body.
var ErrOddEvent = errors.New("leadgrid: odd event")

// maxName bounds an id and a type in a webhook, in bytes. LeadGrid's are far
// shorter, and a database's index takes no text of any length.
const maxName = 255

// maxID bounds the id of an object that an event names, in bytes: what an index of
// Postgres surely takes. The reference does not say how long ids may be.
const maxID = 2000

// An Event is the body of a webhook. LeadGrid does not say whether Data holds
// the whole object, nor that events arrive once or in order: an event is a hint to
// read what it names.
type Event struct {
	ID        string
	Type      string          // empty if it is missing or no text
	CreatedAt time.Time       // zero if it is missing or no RFC 3339 time
	Data      json.RawMessage // a part of the body given to ParseEvent, not a copy

	// DossierID is the dossier the event is about, empty if it cannot be told. The
	// reference does not describe Data, so where to look is an assumption:
	// dossier_id and dossier.id for every event; then id for a dossier.* event,
	// and note.dossier_id for a note.* event, whose own id is the note's.
	DossierID string

	// StageID is the stage a dossier.stage_changed event names, empty if it cannot
	// be told. By assumption, the first there is of current_stage_id, stage_id,
	// to_stage_id, new_stage_id, stage.id, to_stage.id and
	// dossier.current_stage_id.
	StageID string
}

// ParseEvent reads the body of a webhook. It is stricter than encoding/json, so
// that no two readers can see different events in the same bytes, and so
// that all it lets through fits into a database. The body must be one JSON
// object and nothing else, in UTF-8 without a byte-order mark, no key of an object
// twice (in whatever case), nested at most 64 deep, without U+0000 or lone
// surrogates in its strings, with numbers of at most 1000 digits when written
// out, and with an id that is a text of 1 to 255 bytes. A type may be missing or
// unknown, but not longer than that. Else the error is [ErrOddEvent].
func ParseEvent(body []byte) (Event, error) {
	if err := checkJSON(body); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrOddEvent, err)
	}
	var e Event
	for key, value := range members(body) {
		switch string(key) {
		case "id":
			e.ID = string(unquote(value))
		case "type":
			e.Type = string(unquote(value))
		case "created_at":
			e.CreatedAt, _ = time.Parse(time.RFC3339, string(unquote(value)))
		case "data":
			e.Data = value
		}
	}
	if e.ID == "" || len(e.ID) > maxName {
		return Event{}, fmt.Errorf("%w: no id of 1 to %d bytes", ErrOddEvent, maxName)
	}
	if len(e.Type) > maxName {
		return Event{}, fmt.Errorf("%w: a type of more than %d bytes", ErrOddEvent, maxName)
	}
	e.readData()
	return e, nil
}

// readData finds the ids in Data.
func (e *Event) readData() {
	ids := map[string]string{}
	collectIDs(ids, "", e.Data)
	places := []string{"dossier_id", "dossier.id"}
	switch {
	case strings.HasPrefix(e.Type, "dossier."):
		places = append(places, "id")
	case strings.HasPrefix(e.Type, "note."):
		places = append(places, "note.dossier_id")
	}
	e.DossierID = firstOf(ids, places...)
	if e.Type == EventDossierStageChanged {
		e.StageID = firstOf(ids, "current_stage_id", "stage_id", "to_stage_id", "new_stage_id",
			"stage.id", "to_stage.id", "dossier.current_stage_id")
	}
}

func firstOf(ids map[string]string, places ...string) string {
	for _, place := range places {
		if id := ids[place]; id != "" {
			return id
		}
	}
	return ""
}

// collectIDs gathers the ids of an object and of the objects right inside it, by
// their place: "dossier_id", "dossier.id".
func collectIDs(ids map[string]string, prefix string, object []byte) {
	for key, value := range members(object) {
		switch {
		case bytes.HasSuffix(key, []byte("id")):
			if id := idText(value); len(id) <= maxID {
				ids[prefix+string(key)] = id
			}
		case prefix == "" && value[0] == '{':
			collectIDs(ids, string(key)+".", value)
		}
	}
}
