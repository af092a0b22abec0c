package main

var receiverAndQueue = Dashboard{
	UID: "leadgrid-receiver", Title: "LeadGrid: receiver and queue",
	Description: "Webhooks as they come in, and the jobs that process them.",
	Rows: []Row{
		{"Receiver", []Panel{
			{
				Title: "Webhooks by result", Unit: "reqps", Stack: true,
				Description: "stored, duplicate and odd are answered 2xx; unavailable and panicked 5xx; the rest 4xx.", Runbook: "LeadgridWebhookErrors",
				Queries: []Query{{`sum by (result) (rate(leadgrid_webhooks_total{@}[$__rate_interval]))`, "{{result}}"}},
			},
			{
				Title: "Accepted, by event", Unit: "reqps", Stack: true, Runbook: "LeadgridNoTraffic",
				Description: "Events answered 2xx, by their type.",
				Queries:     []Query{{`sum by (type) (rate(leadgrid_webhooks_total{@,result=~"stored|duplicate|odd"}[$__rate_interval]))`, "{{type}}"}},
			},
			{
				Title: "Time to the answer", Unit: "s", Runbook: "LeadgridSlowAcks",
				Description: "From a webhook's header being read to its answer, for authentic webhooks.",
				Thresholds:  []Threshold{{1, "red"}},
				Queries: []Query{
					{`histogram_quantile(0.5, sum by (le) (rate(leadgrid_webhook_duration_seconds_bucket{@,result=~"stored|duplicate|odd|unavailable"}[$__rate_interval])))`, "half within"},
					{`histogram_quantile(0.99, sum by (le) (rate(leadgrid_webhook_duration_seconds_bucket{@,result=~"stored|duplicate|odd|unavailable"}[$__rate_interval])))`, "99% within"},
				},
			},
			{
				Title: "Signatures rejected", Unit: "reqps", Stack: true, Runbook: "LeadgridSignaturesRejected",
				Description: "wrong, with nothing accepted: the secret was rotated. missing and malformed: somebody else than LeadGrid.",
				Queries:     []Query{{`sum by (reason) (rate(leadgrid_webhook_signature_rejections_total{@}[$__rate_interval]))`, "{{reason}}"}},
			},
			{
				Title: "Transactions that store events", Unit: "s", Runbook: "LeadgridSlowAcks",
				Description: "How long they take: the database's part of the answer.",
				Queries: []Query{
					{`histogram_quantile(0.99, sum by (le) (rate(leadgrid_webhook_flush_duration_seconds_bucket{@}[$__rate_interval])))`, "99% within"},
					{`sum(rate(leadgrid_webhook_flush_duration_seconds_sum{@}[$__rate_interval])) / sum(rate(leadgrid_webhook_flush_duration_seconds_count{@}[$__rate_interval]))`, "mean"},
				},
			},
			{
				Title: "Events per transaction", Unit: "short", Runbook: "LeadgridWebhookErrors",
				Description: "How many events a transaction stores, how many wait for theirs, and transactions given up per minute.",
				Queries: []Query{
					{`sum(rate(leadgrid_webhook_flush_events_sum{@}[$__rate_interval])) / sum(rate(leadgrid_webhook_flush_events_count{@}[$__rate_interval]))`, "events in one"},
					{`sum(leadgrid_webhook_events_waiting{@})`, "events before one"},
					{`sum(rate(leadgrid_webhook_flush_errors_total{@}[$__rate_interval])) * 60`, "given up a minute"},
				},
			},
			{
				Title: "Since the last accepted event", Kind: "stat", Unit: "s", Width: 6, Runbook: "LeadgridNoTraffic",
				Description: "Over all replicas that are running.",
				Queries:     []Query{{`time() - (max(leadgrid_webhook_last_accepted_timestamp_seconds{@}) > 0)`, "ago"}},
			},
			{
				Title: "Ready", Kind: "stat", Unit: "short", Width: 6, Runbook: "LeadgridReceiverDown",
				Description: "Replicas that are up and ready, by program.",
				Queries:     []Query{{`sum by (job) (leadgrid_ready{@})`, "{{job}}"}},
			},
			{
				Title: "Versions", Kind: "table", Unit: "short", Width: 12,
				Description: "What runs. More than one during a rollout.",
				Queries:     []Query{{`count by (job, version, commit) (leadgrid_build_info{@})`, ""}},
			},
		}},
		{"Queue", []Panel{
			{
				Title: "Events waiting", Unit: "short", Runbook: "LeadgridQueueLag",
				Description: "Stored but not yet processed.",
				Queries:     []Query{{`max(leadgrid_events_waiting{@})`, "events"}},
			},
			{
				Title: "Oldest that waits", Unit: "s", Runbook: "LeadgridQueueStalled",
				Description: "How long the oldest job of each queue that could run has been waiting, and the oldest event that is not processed.",
				Thresholds:  []Threshold{{600, "red"}},
				Queries: []Query{
					{`max by (queue) (leadgrid_queue_oldest_available_age_seconds{@})`, "job in {{queue}}"},
					{`max(leadgrid_events_oldest_waiting_age_seconds{@})`, "event"},
				},
			},
			{
				Title: "Jobs not ended", Unit: "short", Stack: true, Runbook: "LeadgridQueueStalled",
				Description: "By kind and state. scheduled and retryable wait for their time; available for a worker.",
				Queries:     []Query{{`max by (kind, state) (leadgrid_queue_jobs{@}) > 0`, "{{kind}} {{state}}"}},
			},
			{
				Title: "Outcomes of jobs", Unit: "ops", Stack: true, Runbook: "LeadgridJobsDiscarded",
				Description: "snoozed: comes back later without having failed. discarded: given up.",
				Queries:     []Query{{`sum by (queue, outcome) (rate(leadgrid_jobs_total{@}[$__rate_interval])) > 0`, "{{queue}} {{outcome}}"}},
			},
			{
				Title: "Time of a job", Unit: "s",
				Description: "99% of the attempts take no longer, by kind.",
				Queries:     []Query{{`histogram_quantile(0.99, sum by (kind, le) (rate(leadgrid_job_duration_seconds_bucket{@}[$__rate_interval])))`, "{{kind}}"}},
			},
			{
				Title: "Wait of a job", Unit: "s", Runbook: "LeadgridQueueLag",
				Description: "99% of the jobs are started no later after they could run, by kind.",
				Queries:     []Query{{`histogram_quantile(0.99, sum by (kind, le) (rate(leadgrid_job_wait_seconds_bucket{@}[$__rate_interval])))`, "{{kind}}"}},
			},
		}},
		{"Database connections", []Panel{
			{
				Title: "Connections in use", Unit: "percentunit", Max: 1, Width: 12, Runbook: "LeadgridWebhookErrors",
				Description: "Share of each pool that is at work.",
				Queries:     []Query{{`sum by (pod, instance) (leadgrid_database_connections{@,state="acquired"}) / sum by (pod, instance) (leadgrid_database_connections_max{@})`, "{{pod}} {{instance}}"}},
			},
			{
				Title: "Waiting for a connection", Unit: "s", Width: 12, Runbook: "LeadgridSlowAcks",
				Description: "Seconds of waiting per second. Above 0 for long: DATABASE_MAX_CONNS is too low.",
				Queries:     []Query{{`sum by (job) (rate(leadgrid_database_acquire_wait_seconds_total{@}[$__rate_interval]))`, "{{job}}"}},
			},
		}},
	},
}
