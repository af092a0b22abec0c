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

// ErrOddEvent means that a webhook's body, however authentic, is not an event
// that can be relied on. The error says why, without quoting the body.
var ErrOddEvent = errors.New("leadgrid: odd event")

// maxName bounds an event's id and type, in bytes. LeadGrid's are far shorter, and
// a database's index does not take texts of any length.
const maxName = 255

// maxID bounds the id of an object that an event names, in bytes: a Postgres index
// takes at least that. The reference does not say how long ids may be.
const maxID = 2000

var (
	errNoID     = fmt.Errorf("no id of 1 to %d bytes", maxName)
	errLongType = fmt.Errorf("a type of more than %d bytes", maxName)
)

// An Event is the body of a webhook. LeadGrid does not promise that Data holds the
// whole object, nor that events arrive once or in order: treat an event as a hint
// to read what it names.
type Event struct {
	ID        string
	Type      string          // empty if it is missing or no string
	CreatedAt time.Time       // zero if it is missing or no RFC 3339 time
	Data      json.RawMessage // a part of the body given to ParseEvent, not a copy

	// DossierID is the dossier the event is about, empty if that is not clear. The
	// reference does not describe Data, so where to look is an assumption:
	// dossier_id and dossier.id for every event; then id for a dossier.* event,
	// and note.dossier_id for a note.* event, whose own id is the note's.
	DossierID string

	// StageID is the stage that a dossier.stage_changed event names, empty if that is
	// not clear. It is an assumption too: the first that is there of
	// current_stage_id, stage_id, to_stage_id, new_stage_id, stage.id, to_stage.id
	// and dossier.current_stage_id.
	StageID string
}

// ParseEvent reads the body of a webhook. It is stricter than encoding/json, so
// that no two readers can see different events in the same bytes, and that
// everything it accepts fits into a database. Any other body is [ErrOddEvent]:
//
//   - It must be one JSON object and nothing else, in UTF-8 without a byte-order
//     mark, nested at most 64 deep.
//   - No object may hold a key twice, in any case.
//   - Strings must not hold U+0000 or lone surrogates, and numbers must have at most
//     1000 digits when written out.
//   - It must have an id, a string of 1 to 255 bytes. The type may be missing or
//     unknown, but not longer than that.
//
// With ErrOddEvent comes what can be made out all the same, without an ID: it may
// still say what to read. Of a body whose keys or values are doubtful that is no
// StageID, and texts may hold U+0000; of one that is not JSON it is nothing.
func ParseEvent(body []byte) (Event, error) {
	odd := checkJSON(body)
	if odd != nil && !json.Valid(body) {
		return Event{}, fmt.Errorf("%w: %w", ErrOddEvent, odd)
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
	e.readData()
	switch {
	case odd != nil:
		e.StageID = ""
	case e.ID == "" || len(e.ID) > maxName:
		odd = errNoID
	case len(e.Type) > maxName:
		odd = errLongType
	default:
		return e, nil
	}
	e.ID = ""
	if len(e.Type) > maxName {
		e.Type = ""
	}
	return e, fmt.Errorf("%w: %w", ErrOddEvent, odd)
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

// collectIDs collects the ids in an object and in the objects directly inside it,
// by their place: "dossier_id", "dossier.id".
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
