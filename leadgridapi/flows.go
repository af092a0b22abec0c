package leadgridapi

import (
	"context"
	"encoding/json"
	"iter"
)

// A Flow is a pipeline: stages that dossiers of its type pass through.
type Flow struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Type      string  `json:"type"`
	IsDefault bool    `json:"is_default"`
	Stages    []Stage `json:"stages"` // by position

	Raw json.RawMessage `json:"-"` // the stages included
}

// UnmarshalJSON decodes f as the package documentation says of objects.
func (f *Flow) UnmarshalJSON(raw []byte) error { return decode(raw, f, &f.Raw) }

func (f Flow) key() string { return keyOr(f.ID, f.Raw) }

// A Stage is one step of a flow.
type Stage struct {
	ID             string      `json:"id"`
	FlowID         string      `json:"flow_id"`
	Name           string      `json:"name"`
	Position       int         `json:"position"`
	DeadlineDays   *int        `json:"deadline_days"`
	WinProbability json.Number `json:"win_probability"` // percent
	Color          string      `json:"color"`

	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON decodes s as the package documentation says of objects.
func (s *Stage) UnmarshalJSON(raw []byte) error { return decode(raw, s, &s.Raw) }

func (s Stage) key() string { return keyOr(s.ID, s.Raw) }

// A FlowFilter narrows a list of flows.
type FlowFilter struct {
	Type string
}

// ListFlows returns one page of flows, their stages included.
// Scope: flows:read.
func (c *Client) ListFlows(ctx context.Context, f FlowFilter, p PageRequest) (Page[Flow], error) {
	return list[Flow](ctx, c, query("type", f.Type), p, "flows")
}

// Flows iterates over all flows that pass the filter. Scope: flows:read.
func (c *Client) Flows(ctx context.Context, f FlowFilter) iter.Seq2[Flow, error] {
	return pages(func(p PageRequest) (Page[Flow], error) { return c.ListFlows(ctx, f, p) }, Flow.key)
}

// ListStages returns the stages of a flow, by position. Scope: flows:read.
//
// LeadGrid does not say that stages come in pages; the zero PageRequest asks for
// them as it documents.
func (c *Client) ListStages(ctx context.Context, flowID string, p PageRequest) (Page[Stage], error) {
	return list[Stage](ctx, c, nil, p, "flows", flowID, "stages")
}

// Stages iterates over all stages of a flow, by position. Scope: flows:read.
func (c *Client) Stages(ctx context.Context, flowID string) iter.Seq2[Stage, error] {
	return pages(func(p PageRequest) (Page[Stage], error) { return c.ListStages(ctx, flowID, p) }, Stage.key)
}
