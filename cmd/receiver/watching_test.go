package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

func TestMetricsAreBornAtZeroAndWellNamed(t *testing.T) {
	registry := prometheus.NewRegistry()
	newMetrics(registry)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	for name, want := range map[string]int{
		"leadgrid_webhooks_total":                     len(acceptedResults)*(len(knownTypes)+1) + len(refusedResults),
		"leadgrid_webhook_signature_rejections_total": len(rejectionReasons),
	} {
		if got, err := testutil.GatherAndCount(registry, name); err != nil || got != want {
			t.Errorf("%s starts with %d series, %v, want %d", name, got, err, want)
		}
	}
}

// A person's data, secrets and what strangers make up must show up neither in a log line, whatever the level, nor in a
// metric.
func TestPromise14_LogsAndMetricsTellNothingPersonal(t *testing.T) {
	url := pgtest.URL(t)
	config := testConfig(url)
	config.Level = -8 // everything
	var logs bytes.Buffer
	listening, ended := make(chan addresses, 1), make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { ended <- run(ctx, config, &logs, func(a addresses) { listening <- a }) }()
	receiver := <-listening

	const person = "Zoë van Tricht"
	personal := func(id, eventType string) []byte {
		return fmt.Appendf(nil, `{"id":%q,"type":%q,"created_at":"2026-05-01T10:00:00Z","data":{"id":"dos_1","name":%q}}`, id, eventType, person)
	}
	for want, bodies := range map[string][][]byte{
		"stored":    {personal("evt_1", leadgridapi.EventDossierCreated), personal("evt_2", person+".merged")},
		"duplicate": {personal("evt_1", leadgridapi.EventDossierCreated)},
		"odd":       {personal("evt_3", "x")[1:], fmt.Appendf(nil, `{"id":{"name":%q}}`, person)},
	} {
		for _, body := range bodies {
			if response := receiver.post(t, body); response.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d", want, response.StatusCode)
			}
		}
	}
	forged := personal("evt_4", "x")
	for _, header := range []string{"", "t=" + person, leadgridapi.Sign("guess", time.Now(), forged), leadgridapi.Sign(testSecret, time.Unix(1, 0), forged)} {
		response, err := receiver.send(t.Context(), http.MethodPost, webhooksPath+"?who="+"Tricht", forged, leadgridapi.SignatureHeader, header)
		if err != nil || response.StatusCode != http.StatusUnauthorized {
			t.Errorf("signature %q: %v, %v", header, response, err)
		}
	}

	_, metrics := receiver.ask(t, "/metrics")
	for line, want := range map[string]string{
		`leadgrid_webhooks_total{result="stored",type="dossier.created"}`:    "1",
		`leadgrid_webhooks_total{result="stored",type="other"}`:              "1",
		`leadgrid_webhooks_total{result="stored",type="note.created"}`:       "0",
		`leadgrid_webhooks_total{result="duplicate",type="dossier.created"}`: "1",
		`leadgrid_webhooks_total{result="odd",type="none"}`:                  "2",
		`leadgrid_webhooks_total{result="unsigned",type="none"}`:             "4",
		`leadgrid_webhook_signature_rejections_total{reason="missing"}`:      "1",
		`leadgrid_webhook_signature_rejections_total{reason="malformed"}`:    "1",
		`leadgrid_webhook_signature_rejections_total{reason="wrong"}`:        "1",
		`leadgrid_webhook_signature_rejections_total{reason="time"}`:         "1",
		`leadgrid_webhook_duration_seconds_count{result="unsigned"}`:         "4",
		`leadgrid_webhook_events_waiting`:                                    "0",
		`leadgrid_webhook_flush_errors_total`:                                "0",
		`leadgrid_database_connections_max`:                                  "4",
	} {
		value := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + ` (\S+)$`).FindStringSubmatch(metrics)
		if value == nil || value[1] != want {
			t.Errorf("%s = %v, want %s", line, value, want)
		}
	}
	if regexp.MustCompile(`(?m)^leadgrid_webhook_last_accepted_timestamp_seconds 0$`).MatchString(metrics) {
		t.Error("the time of the last accepted event is not told")
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"logs": logs.String(), "metrics": metrics} {
		for _, secret := range []string{"Zoë", "Tricht", testSecret, "guess"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in the %s", secret, where)
			}
		}
	}
	for _, id := range []string{"evt_1", "evt_2"} {
		if !strings.Contains(logs.String(), `"event":"`+id+`"`) {
			t.Errorf("no line about %s in the logs", id)
		}
	}
}
