package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// TestStateOutlivesTheDatabase: a scrape while the database is away answers all the same, with what was read last, whose
// ages go on growing.
func TestStateOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away error
		oldest := time.Now().Add(-time.Minute)
		m := &stateMetrics{
			promised: map[string]time.Duration{"notes": time.Hour},
			log:      slog.New(slog.DiscardHandler),
			read: func(context.Context) (*state, error) {
				return &state{At: time.Now(), Waiting: 3, Oldest: &oldest}, away
			},
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(m)
		scrape := func() map[string]*dto.MetricFamily {
			t.Helper()
			all, err := registry.Gather()
			if err != nil {
				t.Fatalf("the whole scrape fails: %v", err)
			}
			families := make(map[string]*dto.MetricFamily)
			for _, family := range all {
				families[family.GetName()] = family
			}
			return families
		}
		want := func(families map[string]*dto.MetricFamily, name string, number float64) {
			t.Helper()
			if families[name] == nil || value(families, name) != number {
				t.Errorf("%s = %v, want %v", name, families[name], number)
			}
		}

		away = errors.New("no route")
		families := scrape()
		want(families, "leadgrid_state_read_timestamp_seconds", 0)
		want(families, "leadgrid_mirror_promise_seconds", 3600)
		if families["leadgrid_events_waiting"] != nil {
			t.Error("it tells of events that it has not read of")
		}

		away = nil
		time.Sleep(stateKept)
		read := float64(time.Now().Unix())
		families = scrape()
		want(families, "leadgrid_state_read_timestamp_seconds", read)
		want(families, "leadgrid_events_oldest_waiting_age_seconds", 75)

		away = errors.New("no route")
		time.Sleep(10 * time.Minute)
		families = scrape()
		want(families, "leadgrid_state_read_timestamp_seconds", read)
		want(families, "leadgrid_events_waiting", 3)
		want(families, "leadgrid_events_oldest_waiting_age_seconds", 675)
	})
}
