package writeback_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// stock is a mirror with one of everything, without a LeadGrid.
const stock = `
	INSERT INTO flows (id, name, type, is_default) VALUES ('f1', 'Hiring', 'candidate', true), ('f2', 'Deals', 'sales', true);
	INSERT INTO stages (id, flow_id, name, position) VALUES ('s1', 'f1', 'Applied', 1), ('s2', 'f1', 'Hired', 2), ('s3', 'f2', 'Lead', 1);
	INSERT INTO dossiers (id, type, name, flow_id, current_stage_id) VALUES ('d1', 'candidate', 'Ann', 'f1', 's1'), ('d2', 'sales', 'Acme', NULL, 's3');
	INSERT INTO dossiers (id, type, name, _deleted_at) VALUES ('d9', 'sales', 'Gone', now());
	INSERT INTO contacts (id, full_name, email) VALUES ('c1', 'Ann', 'Ann@Example.com'), ('c2', 'Bob', NULL);
	INSERT INTO commands (id, operation, state) VALUES ('00000000-0000-4000-8000-000000000001', 'create_dossier', 'refused');
	INSERT INTO commands (id, operation, state, leadgrid_id) VALUES ('00000000-0000-4000-8000-000000000002', 'add_note', 'done', 'n1');
	INSERT INTO commands (id, operation, state, leadgrid_id) VALUES ('00000000-0000-4000-8000-000000000003', 'create_contact', 'done', 'c2')`

func TestMistakesFailInTheCallersTransaction(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), stock); err != nil {
		t.Fatal(err)
	}
	const null, invalid, missing, exists = "22004", "22023", "23503", "23505"
	for _, test := range []struct{ call, code, message, hint string }{
		{`create_dossier(NULL, 'Ann')`, null, `type is required`, ``},
		{`create_dossier('person', 'Ann')`, invalid, `type cannot be "person"`, `one of: candidate, sales`},
		{`create_dossier('candidate', NULL)`, null, `name is required`, ``},
		{`create_dossier('candidate', '  ')`, invalid, `name cannot be empty`, ``},
		{`create_dossier('candidate', 'Ann', email => 'ann at example')`, invalid, `email is not an e-mail address`, ``},
		{`create_dossier('candidate', 'Ann', deal_size => 5)`, invalid, `a candidate's dossier has no contact_person, deal_size or deal_currency`, `Only sales`},
		{`create_dossier('sales', 'Acme', deal_size => 'NaN')`, invalid, `deal_size must be a number`, `12500.50`},
		{`create_dossier('sales', 'Acme', deal_currency => 'eur')`, invalid, `deal_currency must be an ISO 4217 code`, `EUR`},
		{`create_dossier('sales', 'Acme', flow_id => 'f1')`, missing, `flow f1 is for candidate dossiers`, ``},
		{`create_dossier('sales', 'Acme', flow_id => 'f9')`, missing, `there is no flow f9`, ``},
		{`create_dossier('sales', 'Acme', contact_id => 'c9')`, missing, `there is no contact c9`, `an earlier create_contact`},
		{`create_dossier('sales', 'Acme', cv_filename => 'cv.pdf')`, invalid, `cv_filename is given without cv`, ``},
		{`create_dossier('candidate', 'Ann', cv => 'PK')`, invalid, `the CV is not a PDF`, `%PDF-`},
		{`create_dossier('candidate', 'Ann', cv => ('%PDF-' || repeat('x', 10*1024*1024))::bytea)`, invalid, `the CV is 10485765 bytes long`, ``},
		{`update_dossier('d9', '{"name": "x"}')`, missing, `dossier d9 is deleted in LeadGrid`, ``},
		{`update_dossier('', '{"name": "x"}')`, null, `dossier_id is required`, ``},
		{`update_dossier('d1', '{"nome": "x", "type": "sales"}')`, invalid, `update_dossier cannot change "nome", "type"`, `It can change name, email, phone`},
		{`update_dossier('d1', '{}')`, invalid, `changes must be a JSON object with at least one field`, ``},
		{`update_dossier('d1', NULL)`, invalid, `changes must be a JSON object with at least one field`, ``},
		{`update_dossier('d1', '{"name": null}')`, null, `name cannot be null`, ``},
		{`update_dossier('d1', '{"phone": 5}')`, invalid, `phone must be a text`, ``},
		{`update_dossier('d1', '{"status": "hired"}')`, invalid, `status cannot be "hired"`, `active, won, lost, archived`},
		{`update_dossier('d1', '{"deal_size": 5}')`, invalid, `a candidate's dossier has no deal_size`, ``},
		{`update_dossier('d2', '{"deal_size": "5"}')`, invalid, `deal_size must be a number`, ``},
		{`update_dossier('d1', '{"current_stage_id": "s3"}')`, missing, `stage s3 is not of flow f1`, `s1 (Applied), s2 (Hired)`},
		{`update_dossier('d1', '{"phone": "1"}', '{"fone": "2"}')`, invalid, `expected names "fone", which dossiers do not have`, ``},
		{`update_dossier('d1', '{"phone": "1"}', '[]')`, invalid, `expected must be a JSON object`, ``},
		{`move_dossier('d1', 's3')`, missing, `stage s3 is not of flow f1`, ``},
		{`move_dossier('d2', 's1')`, missing, `stage s1 is not of flow f2`, `s3 (Lead)`},
		{`move_dossier('d1', 's9')`, missing, `there is no stage s9`, ``},
		{`move_dossier('d1', NULL)`, null, `stage_id is required`, ``},
		{`restore_dossier('d1', 'archived')`, invalid, `status cannot be "archived"`, `active (if nothing is said), won, lost`},
		{`upload_cv('d1', NULL)`, null, `cv is required`, ``},
		{`upload_cv('d1', '')`, invalid, `the CV is not a PDF`, ``},
		{`create_contact(NULL)`, null, `full_name is required`, ``},
		{`create_contact('Ann', email => 'ann@example.com')`, exists, `contact c1 has this e-mail already`, `use that one's id`},
		{`create_contact('Ann', kind => '{friend}')`, invalid, `kind holds something that LeadGrid does not know`, `candidate, prospect, client, supplier, partner`},
		{`update_contact('c2', '{"email": "ANN@example.com"}')`, exists, `contact c1 has this e-mail already`, ``},
		{`update_contact('c2', '{"kind": null}')`, null, `kind cannot be null`, ``},
		{`update_contact('c2', '{"pool": "in_pool"}')`, invalid, `update_contact cannot change "pool"`, ``},
		{`delete_contact('c9')`, missing, `there is no contact c9`, ``},
		{`link_contact('d1', 'c1', 'boss')`, invalid, `role_on_dossier cannot be "boss"`, `primary, hiring_manager`},
		{`link_contact('d1', 'c1', NULL)`, null, `role_on_dossier is required`, ``},
		{`link_contact('d1', 'c9', 'other')`, missing, `there is no contact c9`, ``},
		{`unlink_contact('d7', 'c1')`, missing, `there is no dossier d7`, ``},
		{`add_note('d1', E' \n')`, invalid, `content cannot be empty`, ``},
		{`add_note('00000000-0000-4000-8000-000000000001', 'x')`, missing, `command 00000000-0000-4000-8000-000000000001, which should have made the dossier, was refused`, ``},
		{`add_note('00000000-0000-4000-8000-000000000002'::uuid, 'x')`, missing, `is add_note, which makes no dossier`, ``},
		{`add_note('00000000-0000-4000-8000-000000000009'::uuid, 'x')`, missing, `there is no dossier 00000000-0000-4000-8000-000000000009`, ``},
	} {
		_, err := pool.Exec(t.Context(), `SELECT `+test.call)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok {
			t.Errorf("%s: %v, want an error", test.call, err)
			continue
		}
		if pgErr.Code != test.code || !strings.Contains(pgErr.Message, test.message) || !strings.Contains(pgErr.Hint, test.hint) {
			t.Errorf("%s: %s %q, hint %q; want %s %q, hint %q", test.call, pgErr.Code, pgErr.Message, pgErr.Hint, test.code, test.message, test.hint)
		}
	}
	var written int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM command_queue`).Scan(&written); err != nil || written != 0 {
		t.Errorf("%d commands were written, %v", written, err)
	}
}

func TestCallsThatAreRight(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), stock); err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{
		`create_dossier('candidate', 'Ann')`,
		`create_dossier('candidate', 'Ann', 'ann@example.com', '', NULL)`,
		`create_dossier(type => 'sales', name => 'Acme', deal_size => 12500.50, deal_currency => 'EUR', contact_person => 'Bob')`,
		`create_dossier('candidate', 'Cid', contact_id => 'c1', flow_id => 'f1', cv => '%PDF-1.7', cv_filename => 'cid.pdf')`,
		`create_dossier('candidate', 'Dee', contact_id => '00000000-0000-4000-8000-000000000003'::uuid)`,
		`update_dossier('d1', '{"phone": "1", "assigned_to": null, "current_stage_id": "s2"}', '{"status": "active", "updated_at": null}')`,
		`update_dossier(create_dossier('candidate', 'Eve'), '{"phone": "1"}')`,
		`move_dossier('d2', 's3')`,
		`archive_dossier('d1')`, `restore_dossier('d1')`, `restore_dossier('d1', 'won')`,
		`upload_cv('d1', '%PDF-', 'ann.pdf')`,
		`create_contact('Ann')`, `create_contact('Fay', email => 'fay@example.com', kind => '{candidate,client}')`,
		`update_contact('c1', '{"email": "ann@EXAMPLE.com", "kind": []}')`,
		`delete_contact('c2')`,
		`link_contact('d1', 'c1', 'champion', true)`,
		`link_contact(create_dossier('candidate', 'Gus'), create_contact('Gus'), 'primary')`,
		`link_contact('d1', create_contact('Hal'), 'other')`, `link_contact(create_dossier('candidate', 'Ida'), 'c1', 'other')`,
		`unlink_contact('d1', 'c1')`,
		`add_note('d1', 'Hello', false)`, `add_note(dossier_id => 'd1', content => 'Hello')`,
	} {
		if _, err := pool.Exec(t.Context(), `SELECT `+call); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
	if _, err := pool.Exec(t.Context(), `SELECT create_contact('Ann', email => 'FAY@example.com')`); err == nil || !strings.Contains(err.Error(), "is creating a contact with this e-mail already") {
		t.Errorf("an e-mail that a pending command creates: %v", err)
	}
	// A done command's id is resolved at once.
	var contact string
	if err := pool.QueryRow(t.Context(), `SELECT contact_id FROM commands WHERE arguments ->> 'name' = 'Dee'`).Scan(&contact); err != nil || contact != "c2" {
		t.Errorf("contact %q, %v", contact, err)
	}
}

func TestOnlyWhoIsGrantedMayWrite(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), stock); err != nil {
		t.Fatal(err)
	}
	role := "wb_" + strings.ToLower(strings.ReplaceAll(t.Name(), "Test", ""))
	for _, sql := range []string{`DROP ROLE IF EXISTS ` + role, `CREATE ROLE ` + role} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
		if err != nil {
			t.Error(err)
		}
	})
	as := func(sql string) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE `+role); err != nil {
				t.Fatal(err)
			}
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
	}
	grant := func(deletes bool) {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			return writeback.Grant(t.Context(), tx, pgtest.Schemas.Mirror, role, deletes)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(sql string) {
		t.Helper()
		if pgErr, ok := errors.AsType[*pgconn.PgError](as(sql)); !ok || pgErr.Code != "42501" {
			t.Errorf("%s: %v, want permission denied", sql, pgErr)
		}
	}
	allowed := func(sql string) {
		t.Helper()
		if err := as(sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	refused(`SELECT leadgrid.add_note('d1', 'x')`)
	grant(false)
	allowed(`SELECT leadgrid.add_note('d1', 'x')`)
	allowed(`SELECT leadgrid.add_note(leadgrid.create_dossier('candidate', 'Ann'), 'x')`)
	allowed(`SELECT state, result FROM leadgrid.commands`)
	allowed(`SELECT * FROM leadgrid.commands_attention`)
	refused(`SELECT leadgrid.delete_contact('c2')`)
	refused(`SELECT leadgrid.delete_contact('00000000-0000-4000-8000-000000000003'::uuid)`)
	refused(`SELECT leadgrid.command_write('delete_contact', '{}', NULL, 'c1', '{}', '{}')`)
	refused(`INSERT INTO leadgrid.commands (operation) VALUES ('delete_contact')`)
	refused(`SELECT * FROM leadgrid.contacts`)
	refused(`SELECT * FROM leadgrid.command_cvs`)
	grant(true)
	allowed(`SELECT leadgrid.delete_contact('c2')`)
	grant(false)
	refused(`SELECT leadgrid.delete_contact('c1')`)

	// A table of the caller's own must not take the place of ours in a function that has its owner's rights.
	allowed(`CREATE TEMP TABLE commands (LIKE leadgrid.commands INCLUDING ALL); SELECT leadgrid.add_note('d1', 'shadowed')`)
	var stored bool
	if err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM leadgrid.commands WHERE arguments ->> 'content' = 'shadowed')`).Scan(&stored); err != nil || !stored {
		t.Errorf("the command went into a temporary table: %v", err)
	}
}

// What is rolled back is never sent, and what waits for a commit holds up nothing else.
func TestTheCallersTransactionDecides(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	w.start(options())
	dossier := w.done(w.write(`create_dossier('candidate', 'Ann')`))
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id string
	if err := tx.QueryRow(t.Context(), `SELECT add_note($1, 'never')`, *dossier.LeadGridID).Scan(&id); err != nil {
		t.Fatal(err)
	}
	w.done(w.write(`create_dossier('candidate', 'Bob')`))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.done(w.write(`add_note($1, 'now')`, *dossier.LeadGridID))
	for _, create := range w.Creates() {
		if strings.Contains(create.Body, "never") {
			t.Error("a command was sent that was rolled back")
		}
	}
}

// Two transactions that write on one dossier: the one that commits first is carried out first, whenever it began.
func TestOrderOfCommitIsOrderOfSending(t *testing.T) {
	t.Parallel()
	w := newRig(t, leadgridtest.Options{})
	stop := w.start(options())
	dossier := *w.done(w.write(`create_dossier('candidate', 'Ann')`)).LeadGridID
	stop()
	early, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := early.Exec(t.Context(), `SELECT 1`); err != nil { // its snapshot and its start are older
		t.Fatal(err)
	}
	late, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(t.Context(), `SELECT add_note($1, 'first')`, dossier); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() {
		_, err := early.Exec(context.Background(), `SELECT add_note($1, 'second')`, dossier)
		written <- errors.Join(err, early.Commit(context.Background()))
	}()
	eventually.True(w.t, "the second to wait for the first", func() (waiting bool) {
		w.scan(`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`, &waiting)
		return waiting
	})
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	want := []string{"first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"}
	for _, note := range want[2:] {
		w.write(`add_note($1, $2)`, dossier, note)
	}
	w.start(options())
	eventually.True(w.t, "the notes", func() bool { return len(w.NoteIDs(dossier)) == len(want) })
	for i, create := range w.Creates()[1:] {
		if !strings.Contains(create.Body, want[i]) {
			t.Errorf("carried out as number %d: %s", i+1, create.Body)
		}
	}
}
