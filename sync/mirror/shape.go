package mirror

import "github.com/leadgrid-sync/leadgrid-sync/mappings"

// Endpoint names an operation whose answers tell about objects, as the contract writes it.
type Endpoint string

// The endpoints that are read, and "answers", which stands for what creates and updates answer.
const (
	GetDossier     Endpoint = "GET /dossiers/:id"
	ListDossiers   Endpoint = "GET /dossiers"
	GetContact     Endpoint = "GET /contacts/:id"
	ListContacts   Endpoint = "GET /contacts"
	ListFlows      Endpoint = "GET /flows"
	ListStages     Endpoint = "GET /flows/:id/stages"
	ListLinks      Endpoint = "GET /dossiers/:id/contacts"
	ListNotes      Endpoint = "GET /dossiers/:id/notes"
	Answers        Endpoint = "answers"
	contactsByPool Endpoint = "GET /contacts?pool="
)

// shape is the set of keys an endpoint has ever shown, each with whether it was ever null.
type shape map[string]bool

func (s shape) has(key string) bool { _, ok := s[key]; return ok }

// learn adds the objects' keys to the shape and returns what was new.
func (s shape) learn(rows []*row) (keys []string, nulls []bool) {
	fresh := make(map[string]bool)
	for _, row := range rows {
		for key, value := range row.told {
			null := isNull(value)
			if seen, ok := s[key]; !ok || (null && !seen) {
				s[key] = seen || null
				fresh[key] = s[key]
			}
		}
	}
	for _, key := range sortedKeys(fresh) {
		keys = append(keys, key)
		nulls = append(nulls, fresh[key])
	}
	return keys, nulls
}

// Thin reports whether rows of the list endpoint may hide fields that a GET of the same object shows, given what both
// have shown so far. A documented field that the list never showed is hidden if GETs showed it. Where GETs never spell
// out a null, a field that neither has shown may just have been null so far: nothing proves then that the list would
// show it, and the list counts as thin.
func (m *Mirror) thin(kind mappings.Kind, list, get shape) bool {
	spellsNulls := false
	for _, null := range get {
		spellsNulls = spellsNulls || null
	}
	for key := range get {
		if !list.has(key) {
			return true
		}
	}
	if spellsNulls {
		return false
	}
	for _, column := range m.tables[kind].mapping.Columns {
		if !list.has(column.Name) && !alwaysSet[column.Name] {
			return true
		}
	}
	return false
}

// alwaysSet are fields that are never null where a response carries them at all, so that one GET tells whether it does.
var alwaysSet = map[string]bool{
	"id": true, "organization_id": true, "type": true, "name": true, "status": true, "flow_id": true,
	"created_at": true, "updated_at": true, "full_name": true, "kind": true, "dossier_count": true,
	// Learned from the filtered lists; told on create only.
	"pool": true, "contact_id": true,
}
