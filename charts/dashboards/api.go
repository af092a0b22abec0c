package main

var apiAndWriteBack = Dashboard{
	UID: "leadgrid-api", Title: "LeadGrid: API budget and write-back",
	Description: "How LeadGrid's API answers, who uses the rate limit, and the commands that write back.",
	Rows: []Row{
		{"API", []Panel{
			{
				Title: "Requests by answer", Unit: "reqps", Stack: true,
				Description: "By HTTP status; error: no answer came.",
				Queries:     []Query{{`sum by (code) (rate(leadgrid_api_requests_total{@}[$__rate_interval]))`, "{{code}}"}},
			},
			{
				Title: "Requests by operation", Unit: "reqps", Stack: true,
				Description: "What LeadGrid is asked for, by the client's method.",
				Queries:     []Query{{`sum by (operation) (rate(leadgrid_api_requests_total{@}[$__rate_interval])) > 0`, "{{operation}}"}},
			},
			{
				Title: "Time of a request", Unit: "s",
				Description: "99% of the requests take no longer, by operation.",
				Queries:     []Query{{`histogram_quantile(0.99, sum by (operation, le) (rate(leadgrid_api_request_duration_seconds_bucket{@}[$__rate_interval])))`, "{{operation}}"}},
			},
		}},
		{"Budget", []Panel{
			{
				Title: "Refused by LeadGrid", Kind: "stat", Unit: "none", Width: 6, Runbook: "LeadgridKeyRefused",
				Description: "Whether LeadGrid refuses the key (401, 402), a scope of it (403), or it belongs to another organization.",
				Thresholds:  []Threshold{{1, "red"}}, Values: map[string]string{"0": "no", "1": "REFUSED"},
				Queries: []Query{{`max by (scope, reason) (leadgrid_api_paused{@})`, "{{scope}} {{reason}}"}},
			},
			{
				Title: "Blocked for", Kind: "stat", Unit: "s", Width: 6, Runbook: "LeadgridBudgetSpent",
				Description: "For how long LeadGrid still asks to send nothing (429 with Retry-After).",
				Thresholds:  []Threshold{{1, "yellow"}, {300, "red"}},
				Queries:     []Query{{`clamp_min(max(leadgrid_api_budget_blocked_until_seconds{@}) - time(), 0)`, "blocked"}},
			},
			{
				Title: "Limit and what is left of it", Unit: "short", Width: 12, Runbook: "LeadgridBudgetSpent",
				Description: "As LeadGrid announced them, in requests per window.",
				Queries: []Query{
					{`max(leadgrid_api_budget_limit{@})`, "limit"},
					{`max(leadgrid_api_budget_remaining{@})`, "left"},
				},
			},
			{
				Title: "Who uses it", Unit: "reqps", Stack: true, Runbook: "LeadgridBudgetSpent",
				Description: "Requests that the budget allowed, all replicas together, by share, and the pace that is possible.",
				Queries: []Query{
					{`max by (share) (rate(leadgrid_api_budget_requests_total{@}[$__rate_interval]))`, "{{share}}"},
					{`max(leadgrid_api_budget_pace{@})`, "possible"},
				},
			},
			{
				Title: "Put off", Unit: "ops", Stack: true, Runbook: "LeadgridBudgetSpent",
				Description: "Requests that had to wait for the budget. later: their job came back another time. Sweeps may; events and write-back should not for long.",
				Queries:     []Query{{`sum by (share, result) (rate(leadgrid_api_budget_waits_total{@}[$__rate_interval]))`, "{{share}} {{result}}"}},
			},
			{
				Title: "Waiting for the budget, and refusals", Unit: "short", Runbook: "LeadgridBudgetSpent",
				Description: "Seconds of waiting per second by share, and refusals (429) in the last hour.",
				Queries: []Query{
					{`sum by (share) (rate(leadgrid_api_budget_wait_seconds_total{@}[$__rate_interval]))`, "{{share}}: waiting"},
					{`max(increase(leadgrid_api_budget_refusals_total{@}[1h]))`, "429 in an hour"},
				},
			},
		}},
		{"Write-back", []Panel{
			{
				Title: "Commands not ended", Unit: "short", Runbook: "LeadgridCommandUnknown",
				Description: "By state. unknown: sent, but without an answer; a person has to settle it.",
				Queries: []Query{
					{`sum by (state) (max by (operation, state) (leadgrid_commands_open{@}))`, "{{state}}"},
					{`max(leadgrid_commands_unknown{@})`, "waiting for a person"},
				},
			},
			{
				Title: "Oldest pending", Unit: "s", Runbook: "LeadgridCommandsWaiting",
				Description: "How long the oldest pending command has been waiting.",
				Queries:     []Query{{`max(leadgrid_commands_oldest_pending_seconds{@})`, "oldest"}},
			},
			{
				Title: "Commands that ended", Unit: "ops", Stack: true, Runbook: "LeadgridCommandUnknown",
				Description: "By operation and how they ended.",
				Queries:     []Query{{`sum by (operation, state) (rate(leadgrid_commands_ended_total{@}[$__rate_interval])) > 0`, "{{operation}} {{state}}"}},
			},
			{
				Title: "Time of a command", Unit: "s", Runbook: "LeadgridCommandsWaiting",
				Description: "From its being committed to LeadGrid's having carried it out.",
				Queries: []Query{
					{`histogram_quantile(0.5, sum by (le) (rate(leadgrid_command_seconds_bucket{@}[$__rate_interval])))`, "half within"},
					{`histogram_quantile(0.99, sum by (le) (rate(leadgrid_command_seconds_bucket{@}[$__rate_interval])))`, "99% within"},
				},
			},
			{
				Title: "Write-back", Kind: "stat", Unit: "none", Runbook: "LeadgridCommandsWaiting",
				Description: "Whether WRITEBACK_PAUSED keeps commands from being sent.",
				Thresholds:  []Threshold{{1, "yellow"}}, Values: map[string]string{"0": "on", "1": "paused"},
				Queries: []Query{{`max(leadgrid_writeback_paused{@})`, "write-back"}},
			},
		}},
	},
}
