{{/*
The alerts. In an expression @receiver and @worker stand for the labels that tell this release's programs, and @name for
the alert's own value of that name. docs/metrics.md describes metrics and alerts, docs/runbooks/ what to do.

Gauges that come from the database are the same on every replica, so they are aggregated with max. absent() of a bare
selector keeps the labels that the selector names.
*/}}
{{- define "leadgrid-sync.alerts" -}}
LeadgridReceiverDown:
  expr: |-
    sum by (namespace, job) (up{@receiver}) == 0
      or sum by (namespace, job) (leadgrid_ready{@receiver}) == 0
      or absent(up{@receiver})
  summary: No receiver takes webhooks
  description: >-
    No replica of {{`{{ $labels.job }}`}} is up and ready. Webhooks that LeadGrid sends now are lost until a sweep repairs what they told.
LeadgridWebhookErrors:
  expr: |-
    sum by (namespace, job) (rate(leadgrid_webhooks_total{@receiver,result=~"unavailable|panicked"}[5m]))
      / sum by (namespace, job) (rate(leadgrid_webhooks_total{@receiver,result=~"stored|duplicate|odd|unavailable|panicked"}[5m]))
      > @ratio
  summary: Webhooks are answered with 5xx
  description: >-
    {{`{{ $value | humanizePercentage }}`}} of the authentic webhooks at {{`{{ $labels.job }}`}} were not stored. If LeadGrid does not send them again, they are lost until a sweep.
LeadgridSignaturesRejected:
  expr: |-
    sum by (namespace, job) (increase(leadgrid_webhook_signature_rejections_total{@receiver,reason=~"wrong|time"}[30m])) >= @rejections
      unless on (namespace, job)
    sum by (namespace, job) (increase(leadgrid_webhooks_total{@receiver,result=~"stored|duplicate|odd"}[30m])) > 0
  summary: Every webhook's signature is rejected
  description: >-
    {{`{{ $labels.job }}`}} has rejected all webhooks of the last 30 minutes, most likely because the secret was rotated in LeadGrid but not here.
LeadgridWorkerDown:
  expr: |-
    sum by (namespace, job) (up{@worker}) == 0
      or sum by (namespace, job) (leadgrid_ready{@worker}) == 0
      or absent(up{@worker})
  summary: No worker is working
  description: >-
    No replica of {{`{{ $labels.job }}`}} is up and ready. Webhooks are stored, but the mirror stands still and nothing is written back.
LeadgridQueueStalled:
  expr: |-
    (
        max by (namespace, job, queue) (leadgrid_queue_oldest_available_age_seconds{@worker}) > 600
      or
        label_replace(max by (namespace, job) (leadgrid_events_oldest_waiting_age_seconds{@worker}) > 1800, "queue", "events", "", "")
    )
      unless on (namespace, job, queue)
    sum by (namespace, job, queue) (increase(leadgrid_jobs_total{@worker,outcome="completed"}[10m])) > 0
      unless on (namespace, job)
    max by (namespace, job) (leadgrid_api_paused{@worker,scope="*"}) == 1
  summary: The queue {{`{{ $labels.queue }}`}} stands still
  description: >-
    Work in the queue {{`{{ $labels.queue }}`}} has been waiting for {{`{{ $value | humanizeDuration }}`}}, and no job in it was completed for 10 minutes.
LeadgridMirrorStale:
  expr: |-
    (time() - (max by (namespace, job, table) (leadgrid_mirror_complete_timestamp_seconds{@worker}) > 0))
      > on (namespace, job, table)
    (max by (namespace, job, table) (leadgrid_mirror_promise_seconds{@worker}) > 0)
  summary: The table {{`{{ $labels.table }}`}} is older than promised
  description: >-
    The mirror's {{`{{ $labels.table }}`}} are complete as of {{`{{ $value | humanizeDuration }}`}} ago. What changed in LeadGrid since, and was told by no webhook, is missing.
LeadgridKeyRefused:
  expr: |-
    max by (namespace, job, scope, reason) (leadgrid_api_paused{@worker}) == 1
  summary: "LeadGrid refuses the API key: {{`{{ $labels.reason }}`}} ({{`{{ $labels.scope }}`}})"
  description: >-
    LeadGrid is not asked any more for {{`{{ if eq $labels.scope "*" }}anything{{ else }}{{ $labels.scope }}{{ end }}`}}: {{`{{ $labels.reason }}`}}. The mirror stands still there; nothing is deleted.
LeadgridBackfillStalled:
  expr: |-
    max by (namespace, job, table) (leadgrid_mirror_complete_timestamp_seconds{@worker}) == 0
      unless on (namespace, job)
    sum by (namespace, job) (increase(leadgrid_sweep_steps_total{@worker}[30m])) > 0
  summary: The backfill of {{`{{ $labels.table }}`}} does not get on
  description: >-
    The table {{`{{ $labels.table }}`}} was never complete, and no sweep has committed a step for 30 minutes.
LeadgridQueueLag:
  expr: |-
    max by (namespace, job) (leadgrid_events_oldest_waiting_age_seconds{@worker}) > @seconds
  summary: Events wait long for being processed
  description: >-
    The oldest event that is not processed has been waiting for {{`{{ $value | humanizeDuration }}`}}.
LeadgridSlowAcks:
  expr: |-
    histogram_quantile(0.99, sum by (namespace, job, le) (rate(leadgrid_webhook_duration_seconds_bucket{@receiver,result=~"stored|duplicate|odd|unavailable"}[5m])))
      > @seconds
  summary: Webhooks are answered slowly
  description: >-
    One webhook in a hundred waits {{`{{ $value | humanizeDuration }}`}} for its answer. LeadGrid may give up on slow receivers.
LeadgridJobsDiscarded:
  expr: |-
    sum by (namespace, job, queue, kind) (increase(leadgrid_jobs_total{@worker,outcome="discarded"}[1h])) > 0
  summary: A job was given up
  description: >-
    Jobs of kind {{`{{ $labels.kind }}`}} were discarded: they failed too often and will not run again by themselves.
LeadgridCommandUnknown:
  expr: |-
    max by (namespace, job) (leadgrid_commands_unknown{@worker}) > 0
  summary: The outcome of a write-back command is unknown
  description: >-
    {{`{{ $value }}`}} write-back commands were sent, but no answer tells whether LeadGrid carried them out. A person has to look.
LeadgridCommandsWaiting:
  expr: |-
    max by (namespace, job) (leadgrid_commands_oldest_pending_seconds{@worker}) > @seconds
      unless on (namespace, job)
    max by (namespace, job) (leadgrid_writeback_paused{@worker}) == 1
  summary: Write-back commands wait long
  description: >-
    The oldest pending write-back command has been waiting for {{`{{ $value | humanizeDuration }}`}}.
LeadgridSweepStopped:
  expr: |-
    max by (namespace, job) (leadgrid_sweep_breaker_open{@worker}) == 1
  summary: A sweep was stopped because too much would be deleted
  description: >-
    The last sweep found so many rows gone from LeadGrid that it deleted none of them. Until somebody decides, no sweep marks rows as deleted.
LeadgridBudgetSpent:
  expr: |-
    sum by (namespace, job, share) (rate(leadgrid_api_budget_waits_total{@worker,share=~"events|write_back",result="later"}[10m])) > 0
  summary: LeadGrid's rate limit is too small for the work
  description: >-
    For an hour, {{`{{ $labels.share }}`}} have been put off again and again for want of API budget.
LeadgridStateUnread:
  expr: |-
    time() - leadgrid_state_read_timestamp_seconds{@worker} > @seconds
  summary: A worker cannot read the mirror's state
  description: >-
    {{`{{ $labels.instance }}`}} has not read the state of queue and mirror for {{`{{ $value | humanizeDuration }}`}}: what the dashboards show is older than they say.
LeadgridNoTraffic:
  expr: |-
    sum by (namespace, job) (increase(leadgrid_webhooks_total{@receiver,result=~"stored|duplicate|odd"}[@window])) == 0
      and on (namespace, job)
    count by (namespace, job) (leadgrid_webhooks_total{@receiver} offset @window) > 0
  summary: No webhook has come for long
  description: >-
    {{`{{ $labels.job }}`}} has accepted no event for {{ .Values.prometheusRule.alerts.LeadgridNoTraffic.window }}. Perhaps the webhook was removed or points elsewhere.
{{- end }}
