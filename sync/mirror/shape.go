package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Endpoint names an operation whose answers show objects, as LeadGrid's reference writes it.
type Endpoint string

// The endpoints that are read, and Answers for the answers to creates and updates.
const (
	GetDossier   Endpoint = "GET /dossiers/:id"
	ListDossiers Endpoint = "GET /dossiers"
	GetContact   Endpoint = "GET /contacts/:id"
	ListContacts Endpoint = "GET /contacts"
	ListFlows    Endpoint = "GET /flows"
	ListStages   Endpoint = "GET /flows/:id/stages"
	ListLinks    Endpoint = "GET /dossiers/:id/contacts"
	ListNotes    Endpoint = "GET /dossiers/:id/notes"
	Answers      Endpoint = "answers"
	// ListContactsByPool is ListContacts with the pool added to each row.
	ListContactsByPool Endpoint = "GET /contacts?pool="
)

// shape is the set of keys that an endpoint has ever shown, each with whether it was ever null.
type shape map[string]bool

func (s shape) has(key string) bool { _, ok := s[key]; return ok }

// learn adds keys to the shape, and what was new to fresh.
func (s shape) learn(keys shape, fresh map[string]bool) {
	for key, null := range keys {
		if seen, ok := s[key]; !ok || (null && !seen) {
			s[key] = seen || null
			fresh[key] = s[key]
		}
	}
}

// getOf is the GET that a list's rows are held against.
var getOf = map[mappings.Kind]struct{ list, get Endpoint }{
	mappings.Dossiers: {ListDossiers, GetDossier},
	mappings.Contacts: {ListContacts, GetContact},
}

// Thin reports whether the rows of the kind's list hide fields that a GET of the same object shows. listed holds rows, by id,
// whose objects have just been read with a GET too, and head the page they were on.
//
// A field that the GET shows and the row does not is hidden. If GETs never spell out a null in a field that we know, a field that
// neither has ever shown may just always have been null: then nothing proves that the list would show it, and the list counts as thin.
func (m *Mirror) Thin(ctx context.Context, kind mappings.Kind, head []json.RawMessage, listed map[string]mappings.Object) (bool, error) {
	endpoints := getOf[kind]
	shapes := map[Endpoint]shape{endpoints.list: {}, endpoints.get: {}}
	rows, err := m.pool.Query(ctx, `SELECT endpoint, key, nulls FROM sync_shapes WHERE endpoint IN ($1, $2)`, endpoints.list, endpoints.get)
	if err != nil {
		return false, fmt.Errorf("load shapes: %w", err)
	}
	var endpoint Endpoint
	var key string
	var nulls bool
	_, err = pgx.ForEachRow(rows, []any{&endpoint, &key, &nulls}, func() error { shapes[endpoint][key] = nulls; return nil })
	if err != nil {
		return false, fmt.Errorf("load shapes: %w", err)
	}
	table := m.tables[kind]
	_, keys, _ := table.parse(head)
	shapes[endpoints.list].learn(keys, make(map[string]bool))
	hides, err := m.hides(ctx, table, shapes[endpoints.get], listed)
	if err != nil || hides {
		return hides, err
	}
	list, get := shapes[endpoints.list], shapes[endpoints.get]
	for key := range get {
		if !list.has(key) {
			return true, nil
		}
	}
	unshown := false
	for _, column := range table.mapping.Columns {
		field, _, _ := strings.Cut(column.Field, ".")
		if get[field] {
			return false, nil // GETs spell out nulls
		}
		if !list.has(field) && !alwaysSet[field] && table.mapping.Lands(field) {
			unshown = true
		}
	}
	return unshown, nil
}

// hides reports whether a listed row lacks a value that the GET, which the mirror has applied, showed.
func (m *Mirror) hides(ctx context.Context, table *table, get shape, listed map[string]mappings.Object) (bool, error) {
	ids := sortedKeys(listed)
	rows, err := m.pool.Query(ctx, `SELECT id, _raw, CASE WHEN _raw IS NULL THEN to_jsonb(t) END FROM `+table.name+` t WHERE id = ANY ($1)`, ids)
	if err != nil {
		return false, fmt.Errorf("load samples: %w", err)
	}
	var id string
	var raw, columns json.RawMessage
	hides := false
	_, err = pgx.ForEachRow(rows, []any{&id, &raw, &columns}, func() error {
		known, err := table.knownFrom(raw, nil, columns)
		if err != nil {
			return err
		}
		for key, value := range known {
			if _, shown := listed[id][key]; !shown && get.has(key) && !isNull(value) {
				hides = true
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("load samples: %w", err)
	}
	return hides, nil
}

// alwaysSet are fields that are never null where a response carries them at all, so that one GET tells whether it does.
var alwaysSet = map[string]bool{
	"id": true, "organization_id": true, "type": true, "name": true, "status": true, "flow_id": true,
	"created_at": true, "updated_at": true, "full_name": true, "kind": true, "dossier_count": true,
	// pool comes from the filtered lists, contact_id is only sent on create.
	"pool": true, "contact_id": true,
}
