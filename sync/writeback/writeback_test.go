package writeback_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestContactDossierCVAndNoteInOneTransaction(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	o := options()
	o.Poll = time.Hour // commands make themselves heard
	w.start(o)
	var contact, dossier, cv, note, update string
	err := w.pool.QueryRow(t.Context(), `
		WITH contact AS (SELECT create_contact('Ann Peeters', email => 'ann@example.com', kind => '{candidate}') AS id),
		dossier AS (SELECT create_dossier('candidate', 'Ann Peeters', contact_id => id) AS id FROM contact),
		cv AS (SELECT upload_cv(id, '%PDF-1.7 Ann') AS id FROM dossier),
		note AS (SELECT add_note(id, 'Called, is interested') AS id FROM dossier),
		change AS (SELECT update_dossier(id, '{"phone": "+32 2 555 01 00"}') AS id FROM dossier)
		SELECT contact.id, dossier.id, cv.id, note.id, change.id FROM contact, dossier, cv, note, change`,
	).Scan(&contact, &dossier, &cv, &note, &update)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{contact, dossier, cv, note, update} {
		w.done(id)
	}
	var name, phone, email, path, content string
	w.scan(`SELECT d.name, d.phone, c.email, d.cv_url, n.content
		FROM dossiers d JOIN contacts c ON c.id = d.contact_id JOIN notes n ON n.dossier_id = d.id`, &name, &phone, &email, &path, &content)
	if name != "Ann Peeters" || phone != "+32 2 555 01 00" || email != "ann@example.com" || content != "Called, is interested" {
		t.Errorf("mirrored %q %q %q %q %q", name, phone, email, path, content)
	}
	var cvs, queued int
	w.scan(`SELECT (SELECT count(*) FROM command_cvs), (SELECT count(*) FROM command_queue)`, &cvs, &queued)
	if cvs != 0 || queued != 0 {
		t.Errorf("%d CVs and %d places in the queue are left", cvs, queued)
	}
}

// The connection that listens is made like the pool's: with the address and password of now, not those of the start.
func TestListensWithTheAddressOfNow(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	config := w.pool.Config()
	now := config.ConnConfig.Database
	config.ConnConfig.Database = "the_one_before"
	config.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error { conn.Database = now; return nil }
	old := w.pool
	var err error
	if w.pool, err = pgxpool.NewWithConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	o := options()
	o.Poll = time.Hour // only a notification makes the runner look
	w.start(o)
	w.pool = old
	eventually.True(w.t, "the runner to listen", func() bool {
		var listening bool
		w.scan(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%')`, &listening)
		return listening
	})
	var id string
	if err := w.pool.QueryRow(t.Context(), `SELECT create_contact('Ann Peeters')`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	w.done(id)
}
