package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/oracle"
	"github.com/leadgrid-sync/leadgrid-sync/internal/verify"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
)

// checkStored looks for an event that is about to be acked (promise 1).
func (r *run) checkStored(ctx context.Context, body []byte) {
	var stored bool
	err := r.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM webhook_events WHERE digest = sha256($1))`, body).Scan(&stored)
	if err == nil && !stored {
		r.failf("promise 1: an event was acked that is not stored")
	}
}

// onlyEvents lets people edit while no sweep runs and no webhook is lost, and waits until the mirror is equal in what the
// events were about (promise 7).
func (r *run) onlyEvents(ctx context.Context) error {
	r.Played = append(r.Played, "only events")
	faults := r.server.Settings().Faults
	r.server.Change(func(s *leadgridtest.Settings) {
		s.Faults = leadgridtest.Faults{
			WebhookDoubled: faults.WebhookDoubled, WebhookReordered: faults.WebhookReordered,
			WebhookDelayed: faults.WebhookDelayed, WebhookDelay: faults.WebhookDelay,
		}
	})
	defer r.server.Change(func(s *leadgridtest.Settings) { s.Faults = faults })
	known, from := r.server.Snapshot()["notes"], len(r.server.Organization.Events())
	for range 3 {
		r.server.Stir(1+r.rng.IntN(4*r.scale), "dossier.create", "dossier.move", "note.add")
		pause(ctx, time.Duration(r.rng.IntN(20))*time.Millisecond)
	}
	if err := r.server.DrainWebhooks(ctx); err != nil {
		return fmt.Errorf("drain webhooks: %w", err)
	}
	truth := r.server.Snapshot()
	touched := make(map[string]bool)
	for _, event := range r.server.Organization.Events()[from:] {
		if event.Type != "note.created" || !r.Habits.AnonymousNotes {
			touched[event.DossierID] = true
		}
	}
	if !r.Habits.AnonymousNotes {
		fresh := maps.Clone(truth["notes"])
		maps.DeleteFunc(fresh, func(id string, _ map[string]any) bool { _, old := known[id]; return old })
		for id := range fresh {
			touched[id] = true
		}
	}
	deadline := time.Now().Add(patience)
	for last := -1; ; pause(ctx, glance) {
		waiting, err := r.eventJobs(ctx)
		if err != nil {
			return err
		}
		if waiting == last && time.Now().Before(deadline) {
			continue // nothing was read since
		}
		last = waiting
		differences, err := oracle.Differences(ctx, r.pool, oracle.Truth(truth), oracle.Options{
			Ignore: r.Habits.Omits, Tables: []string{"dossiers", "notes"}, IDs: touched,
		})
		if err != nil || len(differences) == 0 {
			return err
		}
		if waiting == 0 || time.Now().After(deadline) {
			for _, difference := range differences {
				r.failf("promise 7: after its events: %s", difference)
			}
			return nil
		}
	}
}

// eventJobs counts the jobs that still will read what events were about.
func (r *run) eventJobs(ctx context.Context) (n int, err error) {
	err = r.pool.QueryRow(ctx, `SELECT count(*) FROM leadgrid_queue.river_job
		WHERE kind IN ('leadgrid_events', 'leadgrid_recheck', 'leadgrid_list') AND finalized_at IS NULL`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count jobs: %w", err)
	}
	return n, nil
}

// checkEvents looks for acked events that are not stored, stored ones that nobody has acted on, and stages that they told
// about and the history does not (promises 1 and 13).
func (r *run) checkEvents(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	for {
		var waiting int
		if err := r.pool.QueryRow(ctx, `SELECT count(*) FROM sync_flushes WHERE done_at IS NULL`).Scan(&waiting); err != nil {
			return err
		}
		if waiting == 0 {
			break
		}
		jobs, err := r.eventJobs(ctx)
		if err != nil {
			return err
		}
		if jobs == 0 || time.Now().After(deadline) {
			r.failf("promise 7: %d flushes of events were never processed", waiting)
			return nil
		}
		pause(ctx, glance)
	}
	stored, err := r.stored(ctx)
	if err != nil {
		return err
	}
	fired := make(map[string]leadgridtest.Event)
	for _, event := range r.server.Organization.Events() {
		fired[event.ID] = event
	}
	for _, delivery := range r.server.Organization.Deliveries() {
		if delivery.Status < 200 || delivery.Status > 299 {
			continue
		}
		entered, ok := stored[delivery.EventID]
		event, original := fired[delivery.EventID]
		if !ok && original && odd(event.Data) {
			continue // filed under the hash of its body, which checkStored has seen
		}
		if !ok {
			r.failf("promise 1: event %s was acked and is not stored", delivery.EventID)
			continue
		}
		if !original || event.Type != "dossier.stage_changed" {
			continue
		}
		if stage := stageOf(event.Data); stage != "" && (entered.stage != stage || entered.at.Sub(event.CreatedAt).Abs() > time.Millisecond) {
			r.failf("stage history: event %s says that dossier %s entered stage %s, the history says %q at %v",
				event.ID, event.DossierID, stage, entered.stage, entered.at)
		}
	}
	return nil
}

// entry is what the stage history has of an event.
type entry struct {
	stage string
	at    time.Time
}

// stored reads which events are stored, with what the history made of them.
func (r *run) stored(ctx context.Context) (map[string]entry, error) {
	rows, err := r.pool.Query(ctx, `SELECT e.id, coalesce(h.stage_id, ''), coalesce(h.entered_at, 'epoch')
		FROM webhook_events e LEFT JOIN dossier_stage_history h ON h.event_id = e.id`)
	if err != nil {
		return nil, fmt.Errorf("read stored events: %w", err)
	}
	stored := make(map[string]entry)
	var id string
	var one entry
	_, err = pgx.ForEachRow(rows, []any{&id, &one.stage, &one.at}, func() error {
		stored[id] = one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read stored events: %w", err)
	}
	return stored, nil
}

// odd reports what no jsonb holds.
func odd(data json.RawMessage) bool {
	return bytes.Contains(data, []byte(`\u00`)) || bytes.Contains(data, []byte(`\ud`))
}

// stageOf reads the stage of an event's data, as the stand-in writes it.
func stageOf(data json.RawMessage) string {
	var told struct {
		Stage   string `json:"current_stage_id"`
		Dossier struct {
			Stage string `json:"current_stage_id"`
		}
	}
	if json.Unmarshal(data, &told) != nil {
		return ""
	}
	return told.Stage + told.Dossier.Stage
}

// checkAgain syncs once more, which must write nothing to the mirrored tables (promise 9), and compares with `worker
// verify`, which also sees what has no column (promise 12).
func (r *run) checkAgain(ctx context.Context) error {
	r.server.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })
	if r.rng.IntN(4) > 0 {
		return nil
	}
	r.Played = append(r.Played, "synced again")
	before, err := r.versions(ctx)
	if err != nil {
		return err
	}
	id, err := r.request(ctx, sweep.Full)
	if err != nil {
		return err
	}
	if _, err := r.ended(ctx, id); err != nil {
		return err
	}
	after, err := r.versions(ctx)
	if err != nil {
		return err
	}
	for table, versions := range after {
		if versions != before[table] {
			r.failf("promise 9: a sync over unchanged data wrote %s", table)
		}
	}
	api, err := leadgridapi.New(r.server.URL(), r.server.Key())
	if err != nil {
		return err
	}
	report, err := verify.Run(ctx, r.pool, api, verify.Options{Looks: 1})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for _, finding := range report.Findings {
		r.failf("verify: %s %s is %s %s", finding.Table, finding.ID, finding.Problem, strings.Join(finding.Fields, ", "))
	}
	return nil
}

// versions tells the row versions of each mirrored table apart from any others.
func (r *run) versions(ctx context.Context) (map[string]string, error) {
	versions := make(map[string]string)
	for _, table := range []string{"flows", "stages", "dossiers", "contacts", "dossier_contacts", "notes"} {
		var version string
		err := r.pool.QueryRow(ctx, `SELECT coalesce(md5(string_agg(ctid::text || xmin::text, ' ' ORDER BY ctid)), '') FROM `+table).Scan(&version)
		if err != nil {
			return nil, fmt.Errorf("read the versions of %s: %w", table, err)
		}
		versions[table] = version
	}
	return versions, nil
}
