package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
)

const (
	// mostTries bounds how often a request that failed on the way is sent.
	mostTries = 5
	// mostPasses bounds how often a list is read again because its pages do not add up to LeadGrid's count.
	mostPasses = 5
)

// ask sends a request until LeadGrid answers, waiting as long as it has to.
func ask[T any](ctx context.Context, v *verifier, send func() (T, error)) (T, error) {
	for try := 1; ; {
		answer, err := send()
		var wait time.Duration
		if spent, ok := errors.AsType[*budget.NoTokenError](err); ok {
			wait = time.Until(spent.Until)
		} else if limited, ok := errors.AsType[*leadgridapi.RateLimitError](err); ok {
			v.requests.Add(1)
			wait = limited.RetryAfter
		} else {
			v.requests.Add(1)
			if err == nil || !leadgridapi.Temporary(err) || try == mostTries {
				return answer, err
			}
			wait = v.options.Pause << try / 16
			try++
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// pager reads one page of a list.
type pager func(ctx context.Context, p leadgridapi.PageRequest) ([]object, leadgridapi.Meta, error)

// rawPage is one page of a list, its objects as they came.
type rawPage = leadgridapi.Page[json.RawMessage]

// pager makes a pager of a client method that reads one page of a list.
func (v *verifier) pager(list func(context.Context, leadgridapi.PageRequest) (rawPage, error)) pager {
	return func(ctx context.Context, p leadgridapi.PageRequest) ([]object, leadgridapi.Meta, error) {
		page, err := ask(ctx, v, func() (rawPage, error) { return list(ctx, p) })
		objects := make([]object, 0, len(page.Items))
		for _, raw := range page.Items {
			objects = append(objects, decode(raw))
		}
		return objects, page.Meta, err
	}
}

func decode(raw json.RawMessage) object {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var told object
	if err := decoder.Decode(&told); err != nil {
		return nil // not an object: it has no id, and no row
	}
	return told
}

// readList reads all of a list and passes each page to see. Pages may shift while they are read, and LeadGrid may page as it
// likes, so the list is complete when as many rows were seen as LeadGrid counts, or when another pass shows nothing new.
func readList(ctx context.Context, t *table, list pager, see func([]object) error) error {
	all := make(map[string]bool)
	for range mostPasses {
		pass, fresh := make(map[string]bool), 0
		var total *int
		for n := 1; ; n++ {
			objects, meta, err := list(ctx, leadgridapi.PageRequest{Page: n, PerPage: leadgridapi.MaxPerPage})
			if n > 1 && errors.Is(err, leadgridapi.ErrNotFound) {
				break
			}
			if err != nil {
				return err
			}
			if err := see(objects); err != nil {
				return err
			}
			news := false
			for _, told := range objects {
				id := t.id(told)
				if !pass[id] {
					pass[id], news = true, true
				}
				if !all[id] {
					all[id] = true
					fresh++
				}
			}
			if meta.Total != nil {
				total = meta.Total
			}
			if !news || len(objects) == 0 || total != nil && len(pass) == *total {
				break
			}
		}
		if total != nil && len(all) == *total || fresh == 0 {
			return nil
		}
	}
	return nil // rows that no pass has shown will be asked for by id
}

func (v *verifier) listFlows() pager {
	return v.pager(func(ctx context.Context, p leadgridapi.PageRequest) (rawPage, error) {
		return v.api.ListRawFlows(ctx, leadgridapi.FlowFilter{}, p)
	})
}

func (v *verifier) listDossiers(status string) pager {
	return v.pager(func(ctx context.Context, p leadgridapi.PageRequest) (rawPage, error) {
		return v.api.ListRawDossiers(ctx, leadgridapi.DossierFilter{Status: status}, p)
	})
}

func (v *verifier) listContacts(pool string) pager {
	return v.pager(func(ctx context.Context, p leadgridapi.PageRequest) (rawPage, error) {
		return v.api.ListRawContacts(ctx, leadgridapi.ContactFilter{Pool: pool}, p)
	})
}

// listChildren lists the stages of a flow, or the links or notes of a dossier.
func (v *verifier) listChildren(t *table, parent string) pager {
	list := v.api.ListRawNotes
	switch t {
	case stages:
		list = v.api.ListRawStages
	case links:
		list = v.api.ListRawLinks
	}
	return v.pager(func(ctx context.Context, p leadgridapi.PageRequest) (rawPage, error) { return list(ctx, parent, p) })
}

// get reads one dossier or contact. It returns nil if LeadGrid has none with that id.
func (v *verifier) get(ctx context.Context, t *table, id string) (told object, err error) {
	raw, err := ask(ctx, v, func() (json.RawMessage, error) {
		if t == dossiers {
			dossier, err := v.api.Dossier(ctx, id)
			return dossier.Raw, err
		}
		contact, err := v.api.Contact(ctx, id)
		return contact.Raw, err
	})
	if errors.Is(err, leadgridapi.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if told = decode(raw); t.id(told) != id {
		return nil, fmt.Errorf("LeadGrid answered for %s %s with another object", t.name, id)
	}
	return told, nil
}
