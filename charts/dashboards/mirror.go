package main

var mirror = Dashboard{
	UID: "leadgrid-mirror", Title: "LeadGrid: is the mirror right and fresh",
	Description: "As of when each table is complete, how fast events reach it, and what sweeps had to repair.",
	Rows: []Row{
		{"Fresh", []Panel{
			{
				Title: "Age against the promise", Kind: "bargauge", Unit: "percentunit", Runbook: "LeadgridMirrorStale", Max: 1.5, Width: 8,
				Description: "How much of its promised time each table has used up since it was last complete. Beyond 100% the promise is broken.",
				Thresholds:  []Threshold{{0.8, "yellow"}, {1, "red"}},
				Queries: []Query{{
					`(time() - (max by (table) (leadgrid_mirror_complete_timestamp_seconds{@}) > 0)) / (max by (table) (leadgrid_mirror_promise_seconds{@}) > 0)`,
					"{{table}}",
				}},
			},
			{
				Title: "Complete as of", Unit: "s", Runbook: "LeadgridMirrorStale", Width: 8,
				Description: "How long ago the moment is before which every change in LeadGrid is in the table. It falls when a sweep ends.",
				Queries:     []Query{{`time() - (max by (table) (leadgrid_mirror_complete_timestamp_seconds{@}) > 0)`, "{{table}}"}},
			},
			{
				Title: "Event to row", Unit: "s", Runbook: "LeadgridQueueLag", Width: 8,
				Description: "From a webhook's being stored to everything that it pointed to being mirrored.",
				Queries: []Query{
					{`histogram_quantile(0.5, sum by (le) (rate(leadgrid_event_to_row_seconds_bucket{@}[$__rate_interval])))`, "half within"},
					{`histogram_quantile(0.99, sum by (le) (rate(leadgrid_event_to_row_seconds_bucket{@}[$__rate_interval])))`, "99% within"},
				},
			},
		}},
		{"Right", []Panel{
			{
				Title: "Rows changed", Unit: "rowsps", Stack: true, Width: 12,
				Description: "Rows inserted or updated, by what told of the change. Events should tell of nearly all.",
				Queries:     []Query{{`sum by (cause) (rate(leadgrid_mirror_rows_changed_total{@}[$__rate_interval]))`, "{{cause}}"}},
			},
			{
				Title: "Drift repaired by sweeps", Unit: "short", Width: 12,
				Description: "Rows that a sweep found different and that no event had told of, in the last hour. Links and contacts have no events in LeadGrid; much of dossiers means lost webhooks.",
				Queries:     []Query{{`sum by (table) (increase(leadgrid_mirror_rows_changed_total{@,cause="sweep"}[1h]))`, "{{table}}"}},
			},
			{
				Title: "Tombstones", Unit: "short", Width: 12, Runbook: "LeadgridSweepStopped",
				Description: "Rows marked as deleted in the last hour.",
				Queries:     []Query{{`sum by (table) (increase(leadgrid_mirror_tombstones_total{@}[1h]))`, "{{table}}"}},
			},
			{
				Title: "Deletion breaker", Kind: "stat", Unit: "none", Width: 6, Runbook: "LeadgridSweepStopped",
				Description: "Open: the last sweep found so many rows gone that it deleted none of them, and waits for a decision.",
				Thresholds:  []Threshold{{1, "red"}}, Values: map[string]string{"0": "closed", "1": "OPEN"},
				Queries: []Query{{`max(leadgrid_sweep_breaker_open{@})`, "breaker"}},
			},
			{
				Title: "Replicas that read the state", Kind: "stat", Unit: "short", Width: 6, Runbook: "LeadgridStateUnread",
				Description: "Workers that read the state of mirror and queue in the last two minutes; without any, this dashboard is old.",
				Queries:     []Query{{`count(time() - leadgrid_state_read_timestamp_seconds{@} < 120)`, "replicas"}},
			},
		}},
		{"Sweeps", []Panel{
			{
				Title: "Progress of the running sweep", Unit: "percentunit", Max: 1, Runbook: "LeadgridBackfillStalled",
				Description: "Share of its phase that the running sweep has done; nothing while none runs.",
				Queries:     []Query{{`max by (kind, phase) (leadgrid_sweep_phase_progress_ratio{@})`, "{{kind}}: {{phase}}"}},
			},
			{
				Title: "Sweeps that ended", Unit: "short", Stack: true, Runbook: "LeadgridMirrorStale",
				Description: "In the last hour, by how they ended.",
				Queries:     []Query{{`sum by (kind, outcome) (increase(leadgrid_sweeps_total{@}[1h]))`, "{{kind}} {{outcome}}"}},
			},
			{
				Title: "Steps, and sweeps under way", Unit: "short", Runbook: "LeadgridBackfillStalled",
				Description: "Steps that sweeps committed per minute, and how many sweeps are asked for or running.",
				Queries: []Query{
					{`sum by (kind) (rate(leadgrid_sweep_steps_total{@}[$__rate_interval])) * 60`, "{{kind}}: steps a minute"},
					{`max by (kind) (leadgrid_sweeps_open{@})`, "{{kind}}: under way"},
				},
			},
		}},
	},
}
