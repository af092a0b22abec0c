package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
)

// runbooks is where the alerts' pages are.
const runbooks = "https://github.com/leadgrid-sync/leadgrid-sync/blob/main/docs/runbooks/"

// Dashboard is one page of Grafana, as we write it.
type Dashboard struct {
	UID, Title, Description string
	Rows                    []Row
}

// Row is a headline and the panels under it.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is one picture. In its queries @ stands for the labels that choose the installation.
type Panel struct {
	Title       string
	Kind        string // timeseries if empty; or stat, table, bargauge, heatmap
	Unit        string // Grafana's name of it
	Description string
	Runbook     string // the alert that watches this, if one does
	Width       int    // of 24; 8 if 0
	Stack       bool
	Max         float64 // of the axis, if not 0
	Thresholds  []Threshold
	Values      map[string]string // what values are called, for stat
	Queries     []Query
}

// Query is PromQL, and what to call its series.
type Query struct {
	Expr   string
	Legend string
}

// Threshold colours values from it upwards.
type Threshold struct {
	From  float64
	Color string
}

// expr is the query as Grafana sends it, its variables apart.
func (q Query) expr() string {
	return strings.ReplaceAll(q.Expr, "@", `namespace="$namespace",job=~"$release-.*"`)
}

type object = map[string]any

// JSON is the dashboard as Grafana imports it.
func (d Dashboard) JSON() ([]byte, error) {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	var panels []object
	id, y := 0, 0
	for _, row := range d.Rows {
		id++
		panels = append(panels, object{"id": id, "type": "row", "title": row.Title, "collapsed": false, "panels": []any{}, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}})
		y++
		x := 0
		for _, p := range row.Panels {
			width := cmp.Or(p.Width, 8)
			if x+width > 24 {
				x, y = 0, y+8
			}
			id++
			panels = append(panels, p.json(id, source, object{"x": x, "y": y, "w": width, "h": 8}))
			x += width
		}
		y += 8
	}
	variable := func(name, label, query string) object {
		return object{
			"name": name, "label": label, "type": "query", "datasource": source, "query": object{"query": query, "refId": name},
			"definition": query, "refresh": 2, "sort": 1, "includeAll": false, "multi": false,
		}
	}
	dashboard := object{
		"uid": d.UID, "title": d.Title, "description": d.Description, "tags": []string{"leadgrid-sync"}, "schemaVersion": 39, "editable": false,
		"refresh": "30s", "time": object{"from": "now-6h", "to": "now"}, "timezone": "browser", "graphTooltip": 1, "panels": panels,
		"annotations": object{"list": []any{}},
		"links":       []object{{"type": "dashboards", "title": "LeadGrid", "tags": []string{"leadgrid-sync"}, "keepTime": true, "includeVars": true, "asDropdown": false}},
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
			variable("namespace", "Namespace", "label_values(leadgrid_build_info, namespace)"),
			func() object {
				v := variable("release", "Release", `label_values(leadgrid_build_info{namespace="$namespace"}, job)`)
				v["regex"] = "/(.*)-(?:receiver|worker)$/"
				return v
			}(),
		}},
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(dashboard); err != nil {
		return nil, fmt.Errorf("encode %s: %w", d.UID, err)
	}
	return out.Bytes(), nil
}

func (p Panel) json(id int, source, position object) object {
	kind := cmp.Or(p.Kind, "timeseries")
	var targets []object
	for i, query := range p.Queries {
		target := object{"refId": string(rune('A' + i)), "datasource": source, "expr": query.expr(), "legendFormat": query.Legend}
		if kind == "table" || kind == "bargauge" {
			target["instant"], target["range"] = true, false
		}
		if kind == "table" {
			target["format"] = "table"
		}
		if kind == "heatmap" {
			target["format"] = "heatmap"
		}
		targets = append(targets, target)
	}
	steps := []object{{"color": "green", "value": nil}}
	for _, threshold := range p.Thresholds {
		steps = append(steps, object{"color": threshold.Color, "value": threshold.From})
	}
	defaults := object{"unit": p.Unit, "min": 0, "thresholds": object{"mode": "absolute", "steps": steps}, "noValue": "–"}
	if p.Max != 0 {
		defaults["max"] = p.Max
	}
	if len(p.Values) > 0 {
		options := object{}
		for value, text := range p.Values {
			options[value] = object{"text": text}
		}
		defaults["mappings"] = []object{{"type": "value", "options": options}}
	}
	options := object{}
	switch kind {
	case "timeseries":
		custom := object{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
		if p.Stack {
			custom["stacking"], custom["fillOpacity"] = object{"mode": "normal"}, 40
		}
		if len(p.Thresholds) > 0 {
			custom["thresholdsStyle"] = object{"mode": "dashed"}
		}
		defaults["custom"] = custom
		options = object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	case "stat", "bargauge":
		options = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "orientation": "horizontal"}
		if kind == "stat" {
			options["colorMode"], options["graphMode"] = "background", "none"
		}
	case "heatmap":
		options = object{"calculate": false, "yAxis": object{"unit": p.Unit}, "color": object{"scheme": "Blues"}}
	}
	panel := object{
		"id": id, "type": kind, "title": p.Title, "description": p.Description, "datasource": source, "gridPos": position,
		"targets": targets, "fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "options": options,
	}
	if p.Runbook != "" {
		panel["links"] = []object{{"title": "Runbook: " + p.Runbook, "url": runbooks + p.Runbook + ".md", "targetBlank": true}}
	}
	return panel
}
