package retention_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/retention"
)

const day = 24 * time.Hour

func TestForgetsWhatIsDueAndNothingElse(t *testing.T) {
	pool := pgtest.New(t)
	for _, sql := range []string{
		`INSERT INTO sync_flushes (flush, events, received_at, done_at) VALUES
			(1, 2, now() - interval '31 days', now()), (2, 1, now() - interval '31 days', NULL), (3, 1, now() - interval '29 days', now())`,
		`INSERT INTO webhook_events (digest, id, type, dossier_id, payload, body, odd, flush) VALUES
			('a', 'evt_a', 'dossier.updated', 'd1', '{"name": "Ana"}', NULL, NULL, 1), ('b', 'sha256:b', NULL, NULL, NULL, 'Ana', 'broken', 1),
			('c', 'evt_c', 'note.created', 'd2', '{"name": "Ana"}', NULL, NULL, 2), ('d', 'evt_d', 'dossier.updated', 'd3', '{}', NULL, NULL, 3)`,
		`INSERT INTO commands (operation, state, arguments, error, finished_at, confirms) VALUES
			('create_contact', 'done', '{"a": 1}', NULL, now() - interval '91 days', 0),
			('create_contact', 'refused', '{"b": 1}', 'because', now() - interval '91 days', 0),
			('create_contact', 'done', '{"c": 1}', NULL, now() - interval '91 days', 1),
			('create_contact', 'done', '{"d": 1}', NULL, now() - interval '89 days', 0),
			('create_contact', 'unknown', '{"e": 1}', NULL, NULL, 0)`,
		`INSERT INTO sync_sweeps (kind, resources, state, finished_at) VALUES
			('full', '{}', 'done', now() - interval '50 days'), ('full', '{}', 'done', now() - interval '40 days'),
			('scheduled', '{}', 'done', now() - interval '40 days'), ('scheduled', '{}', 'done', now() - interval '1 day')`,
		`INSERT INTO dossiers (id, _deleted_at) VALUES ('here', NULL), ('gone', now())`,
		`INSERT INTO dossiers_history (id, valid_from, valid_to) VALUES
			('here', now() - interval '800 days', now() - interval '731 days'), ('here', now() - interval '731 days', now() - interval '729 days'),
			('still', now() - interval '800 days', NULL)`,
		`INSERT INTO sync_reads (kind, id, observation, began_at) VALUES
			('dossiers', 'here', 1, now() - interval '50 days'), ('complete notes', 'here', 2, now() - interval '50 days'),
			('dossiers', 'gone', 3, now() - interval '50 days'), ('complete dossier_contacts', 'gone', 4, now() - interval '50 days'),
			('dossiers', 'gone lately', 5, now())`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	limits := retention.Limits{Events: 30 * day, Commands: 90 * day, History: 730 * day, Sweeps: 30 * day}
	got, err := retention.Apply(t.Context(), pool, limits)
	if err != nil {
		t.Fatal(err)
	}
	if want := (retention.Report{Events: 3, Commands: 2, History: 1, Sweeps: 2, Reads: 2}); got != want {
		t.Errorf("forgot %+v, want %+v", got, want)
	}
	for sql, want := range map[string]string{
		`SELECT string_agg(concat_ws(' ', encode(digest, 'escape'), id, type, dossier_id, payload, encode(body, 'escape')), '; ' ORDER BY digest) FROM webhook_events`: `a evt_a dossier.updated d1; b sha256:b; c evt_c note.created d2; d evt_d dossier.updated d3 {}`,
		`SELECT string_agg(flush::text, ' ' ORDER BY flush) FROM sync_flushes`:                                                                                         `2 3`,
		`SELECT string_agg(concat_ws(' ', state, arguments, error), '; ' ORDER BY number) FROM commands`:                                                               `done {}; refused {} forgotten; done {"c": 1}; done {"d": 1}; unknown {"e": 1}`,
		`SELECT string_agg(id, ' ' ORDER BY id) FROM dossiers_history`:                                                                                                 `here still`,
		`SELECT string_agg(id::text, ' ' ORDER BY id) FROM sync_sweeps`:                                                                                                `2 4`,
		`SELECT string_agg(observation::text, ' ' ORDER BY observation) FROM sync_reads`:                                                                               `1 2 5`,
	} {
		rows, err := pool.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string]); err != nil || text != want {
			t.Errorf("%s\n gives %q (%v)\nwant   %q", sql, text, err, want)
		}
	}
	if again, err := retention.Apply(t.Context(), pool, limits); err != nil || again != (retention.Report{}) {
		t.Errorf("again it forgot %+v (%v), want nothing", again, err)
	}
	if none, err := retention.Apply(t.Context(), pool, retention.Limits{}); err != nil || none != (retention.Report{}) {
		t.Errorf("without limits it forgot %+v (%v), want nothing", none, err)
	}
}
