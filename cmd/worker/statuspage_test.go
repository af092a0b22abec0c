package main

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// trouble puts into the database what a bad day leaves there. No job is ready, so that nothing changes while one looks.
func (w *world) trouble(t *testing.T) {
	t.Helper()
	_, err := w.pool.Exec(t.Context(), `
		INSERT INTO sync_pauses (scope, reason, message, probe_at)
		VALUES ('notes:read', 'forbidden', 'LeadGrid says that the API key may not do this (403): it lacks the scope notes:read', now() + interval '40 seconds');
		UPDATE sync_freshness SET complete_as_of = now() - interval '5 hours' WHERE table_name = 'contacts';
		INSERT INTO sync_flushes (flush, events, received_at) VALUES (nextval('observations'), 1234, now() - interval '25 minutes');
		INSERT INTO sync_sweeps (kind, resources, state, progress, requests, message, requested_at, started_at, finished_at)
		VALUES ('scheduled', '{flows}', 'stopped', '{"phase": "settle", "breaker": true, "began": {}}', 41,
			'71 of 80 contacts are gone from LeadGrid at once: nothing was marked as deleted; if that is right, run worker sync --accept-deletions',
			now() - interval '31 minutes', now() - interval '31 minutes', now() - interval '30 minutes');
		INSERT INTO sync_sweeps (kind, resources, state, progress, requests, requested_at, finished_at)
		VALUES ('full', '{flows}', 'superseded', '{}', 0, now() - interval '20 minutes', now() - interval '20 minutes');
		WITH under_way AS (
			INSERT INTO sync_sweeps (kind, resources, state, progress, requests, started_at)
			VALUES ('full', '{flows}', 'running', '{"phase": "contacts", "done": 3400, "total": 12000, "began": {}}', 34, now() - interval '2 minutes')
			RETURNING id)
		INSERT INTO leadgrid_queue.river_job (kind, queue, state, args, max_attempts, scheduled_at)
		SELECT 'leadgrid_sweep', 'sweeps', 'scheduled', jsonb_build_object('sweep', id), 25, now() + interval '1 hour' FROM under_way;
		INSERT INTO commands (operation, state, due_at, attempts) VALUES ('create_dossier', 'unknown', NULL, 8);
		INSERT INTO leadgrid_queue.river_job (kind, queue, state, args, max_attempts, attempt, scheduled_at, errors)
		VALUES ('leadgrid_recheck', 'rechecks', 'retryable', '{"flush": 7}', 25, 3, now() + interval '1 hour', ARRAY[jsonb_build_object(
			'at', now() - interval '12 seconds', 'attempt', 3, 'trace', '', 'error',
			'list notes of d_1: leadgrid: GET /dossiers/d_1/notes: 500 internal')])`)
	if err != nil {
		t.Fatal(err)
	}
}

// awaitPage returns the status page once it says a text: it is read anew only every other second.
func (r *running) awaitPage(t *testing.T, text string) (page string) {
	t.Helper()
	eventually.True(t, "the page to say "+text, func() bool {
		_, page = r.get(t, "/", login("look"))
		return strings.Contains(html.UnescapeString(page), text)
	})
	return page
}

func TestStatusPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, leadgridtest.Options{})
	w.Seed(small)
	w.env["ADMIN_PASSWORD"], w.env["SWEEP_INTERVAL"] = "look", "1h"
	running := w.start(t)
	eventually.True(t, "the worker to be ready", func() bool { status, _ := running.get(t, "/readyz"); return status == http.StatusOK })
	shows := func(texts ...string) {
		t.Helper()
		page := running.awaitPage(t, texts[0])
		plain := html.UnescapeString(page)
		for _, text := range texts[1:] {
			if !strings.Contains(plain, text) {
				t.Errorf("the page does not say %q:\n%s", text, page[strings.Index(page, "<main>"):])
			}
		}
		if strings.Contains(page, "<script>") {
			t.Error("the page holds what it should only quote")
		}
	}
	shows("The mirror needs somebody", "Never read whole: flows, stages, dossiers, contacts, dossier_contacts, notes. Run worker sync.")
	w.run(t, "sync", "--wait").want(t, 0, "the mirror is equal")
	shows("All is well", "forget what was kept long enough", "within 3 h", "within 7 days", "Sweep 1, full", "No job that is still to be done has failed", `href="/river/"`)
	w.trouble(t)
	if _, err := w.pool.Exec(t.Context(), `UPDATE sync_pauses SET message = message || ' <script>alert(1)</script>'`); err != nil {
		t.Fatal(err)
	}
	shows("Older than promised: contacts", "The mirror needs somebody", "it lacks the scope notes:read", "Events have been waiting for 25 min",
		"1,234", "71 of 80 contacts are gone", "reading contacts: 3,400 of 12,000 (28%)", "1 write-back command is unknown",
		"1, 1 for a person to settle", "Look again after events, job", "500 internal", "failed 3 times; tried again in 59 min")
}
