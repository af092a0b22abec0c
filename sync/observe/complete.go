package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

// mostReads bounds how often a parent's list is read again because it moved while it was read.
const mostReads = 5

// errMoving says that a parent's list never held still for two reads.
var errMoving = errors.New("the list kept changing while it was read")

// list is everything that a parent holds of one kind.
type list struct {
	way
	kind   mappings.Kind
	parent string
	from   int // the page to begin with
}

// way is how everything that a parent holds is read.
type way struct {
	endpoint mirror.Endpoint
	column   string // where the mirror keeps the parent, filled in where LeadGrid leaves it out
	scope    string
	unpaged  bool // LeadGrid does not say that it comes in pages: no page is asked for at first
	page     func(*leadgridapi.Client, context.Context, string, leadgridapi.PageRequest) (leadgridapi.Page[json.RawMessage], error)
}

var ways = map[mappings.Kind]way{
	mappings.Links:  {mirror.ListLinks, "dossier_id", "contacts:read", false, (*leadgridapi.Client).ListRawLinks},
	mappings.Notes:  {mirror.ListNotes, "dossier_id", "notes:read", false, (*leadgridapi.Client).ListRawNotes},
	mappings.Stages: {mirror.ListStages, "flow_id", "flows:read", true, (*leadgridapi.Client).ListRawStages},
}

func listOf(kind mappings.Kind, parent string) list {
	return list{way: ways[kind], kind: kind, parent: parent, from: 1}
}

// Notes reads all notes of a dossier.
func (o *Observer) Notes(ctx context.Context, dossierID string, steps ...Step) (Result, error) {
	return o.complete(ctx, listOf(mappings.Notes, dossierID), steps)
}

// Links reads all contacts linked to a dossier.
func (o *Observer) Links(ctx context.Context, dossierID string, steps ...Step) (Result, error) {
	return o.complete(ctx, listOf(mappings.Links, dossierID), steps)
}

// Stages reads all stages of a flow. A 404 counts as one for the flow, which has no GET of its own.
func (o *Observer) Stages(ctx context.Context, flowID string, steps ...Step) (Result, error) {
	return o.complete(ctx, listOf(mappings.Stages, flowID), steps)
}

// complete reads a parent's list until a read is sure to have seen all of it: one page, or as many objects as LeadGrid
// counts, or two reads that agree.
func (o *Observer) complete(ctx context.Context, l list, steps []Step) (Result, error) {
	return again(func(bracketed bool) (Result, error) { return o.completeOnce(ctx, l, bracketed, steps) })
}

func (o *Observer) completeOnce(ctx context.Context, l list, bracketed bool, steps []Step) (Result, error) {
	read, result, err := o.readUntilSure(ctx, l)
	if err != nil || result.NotFound {
		return result, err
	}
	result.Objects = objectsOf(read)
	result.Applied, err = o.applyComplete(ctx, read, bracketed, steps)
	return result, err
}

// readUntilSure reads a parent's list and applies nothing but a 404.
func (o *Observer) readUntilSure(ctx context.Context, l list) (mirror.Complete, Result, error) {
	var previous map[string]bool
	requests := 0
	for range mostReads {
		read, err := o.readAll(ctx, l)
		requests += max(1, len(read.Pages))
		if errors.Is(err, leadgridapi.ErrNotFound) {
			result, err := o.parentNotFound(ctx, l, read.First)
			return read.Complete, result, err
		}
		if err != nil {
			return read.Complete, Result{}, err
		}
		if read.sure || previous != nil && maps.Equal(read.seen, previous) {
			return read.Complete, Result{Requests: requests}, nil
		}
		previous = read.seen
	}
	return mirror.Complete{}, Result{}, fmt.Errorf("%s of %s: %w", l.endpoint, l.parent, errMoving)
}

// reading is a parent's list read once.
type reading struct {
	mirror.Complete
	seen map[string]bool // what identity tells apart
	sure bool            // the pages hold everything: there was one, or the count agrees
}

// readAll reads page after page.
func (o *Observer) readAll(ctx context.Context, l list) (reading, error) {
	read := reading{Complete: mirror.Complete{Kind: l.kind, Parent: l.parent}, seen: make(map[string]bool)}
	totals := make(map[int]bool)
	for n := l.from; ; n++ {
		request := leadgridapi.PageRequest{Page: n, PerPage: leadgridapi.MaxPerPage}
		if l.unpaged && n == 1 {
			request = leadgridapi.PageRequest{}
		}
		page, at, err := ask(ctx, o, l.scope, func() (leadgridapi.Page[json.RawMessage], error) {
			return l.page(o.api, ctx, l.parent, request)
		})
		objects, meta := page.Items, page.Meta
		if n == l.from {
			read.First = at
		} else if errors.Is(err, leadgridapi.ErrNotFound) {
			break // past the end; if the parent is gone the next read finds out
		}
		if err != nil {
			return read, err
		}
		fresh := 0
		for i, object := range objects {
			var key string
			if objects[i], key = l.adopt(object); !read.seen[key] {
				read.seen[key] = true
				fresh++
			}
		}
		if n > l.from && fresh == 0 {
			break // empty, or the first page again
		}
		read.Pages = append(read.Pages, mirror.Read{
			Observation: at, Kind: l.kind, Endpoint: l.endpoint, Objects: objects, Whole: true,
		})
		if meta.Total != nil {
			totals[*meta.Total] = true
		}
		if meta.Ends(len(objects), (l.from-1)*leadgridapi.MaxPerPage+len(read.seen)) {
			break
		}
	}
	read.sure = len(totals) == 0 && len(read.Pages) <= 1 || len(totals) == 1 && totals[len(read.seen)]
	return read, nil
}

// adopt fills in the parent's id where LeadGrid leaves it out of the object: it came from that parent's path. It also gives
// what makes the object the same when it is shown again, whatever else of it changes.
func (l list) adopt(object json.RawMessage) (adopted json.RawMessage, identity string) {
	fields, ok := leadgridapi.Members(object)
	if !ok {
		return object, string(object)
	}
	var id, contact, parent []byte
	for key, value := range fields {
		switch string(key) {
		case "id":
			id = value
		case "contact_id":
			contact = value
		case l.column:
			parent = value
		}
	}
	if parent == nil || string(parent) == "null" {
		object = mappings.With(object, l.column, l.parent)
	}
	if id == nil && contact == nil {
		return object, string(object)
	}
	return object, string(id) + "\x1f" + string(contact)
}

func objectsOf(read mirror.Complete) (objects []json.RawMessage) {
	for _, page := range read.Pages {
		objects = append(objects, page.Objects...)
	}
	return objects
}

// parentNotFound notes a 404 for the parent itself.
func (o *Observer) parentNotFound(ctx context.Context, l list, at mirror.Observation) (Result, error) {
	kind := mappings.Dossiers
	if l.kind == mappings.Stages {
		kind = mappings.Flows
	}
	err := o.mirror.InTx(ctx, func(tx pgx.Tx) error {
		if err := o.mirror.Orphan(ctx, tx, l.kind, l.parent, at); err != nil {
			return err
		}
		return o.mirror.NoteRead(ctx, tx, mirror.LedgerMissing(l.kind), l.parent, at)
	})
	if err != nil {
		return Result{}, err
	}
	return o.notFound(ctx, kind, l.parent, at)
}
