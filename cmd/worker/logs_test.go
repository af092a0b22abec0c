package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/internal/eventually"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// canary stands in every personal field and every secret. Nothing that the programs write down may hold it.
const canary = "canary"

// plant puts a canary into every field in which LeadGrid keeps something about a person.
func (w *world) plant(t *testing.T) (dossiers []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		contact, err := w.CreateContact(leadgridtest.Fields{
			"full_name": canary + " name", "email": fmt.Sprintf("%s%d@example.com", canary, i), "phone": canary + " phone",
			"linkedin_url": "https://example.com/" + canary, "company": canary + " company", "role": canary + " role",
			"city": canary + " city", "notes": canary + " notes",
		})
		must(err)
		dossier, err := w.CreateDossier(leadgridtest.Fields{
			"type": "sales", "name": canary + " name", "email": canary + "@example.com", "phone": canary + " phone", "city": canary + " city",
			"company": canary + " company", "role": canary + " role", "contact_person": canary + " person", "intake_notes": canary + " intake",
		})
		must(err)
		must(w.UploadCV(dossier, []byte("%PDF-1.4 "+canary)))
		must(w.Link(dossier, contact, "primary", true))
		_, err = w.AddNote(dossier, canary+" note", true)
		must(err)
		dossiers = append(dossiers, dossier)
	}
	return dossiers
}

// TestPromise14_NobodyInLogsOrMetrics plants canaries, lets everything happen that can go wrong, and looks for them in all
// that the programs say, count and keep about their jobs.
func TestPromise14_NobodyInLogsOrMetrics(t *testing.T) {
	w := newWorld(t, leadgridtest.Options{Key: "lg_live_" + canary})
	w.Seed(leadgridtest.Size{Dossiers: 5, Contacts: 5, Links: 5, Notes: 5})
	dossiers := w.plant(t)
	if joined := strings.Contains(w.env["DATABASE_URL"], "?"); !joined {
		w.env["DATABASE_URL"] += "?"
	}
	w.env["DATABASE_URL"] += "&password=" + canary
	w.env["ADMIN_PASSWORD"], w.env["LOG_LEVEL"] = canary, "debug"
	said := make(map[string]string) // by who said it
	traces := w.collectTraces(t)

	worker, receiver := w.start(t), w.receive(t)
	eventually.True(t, "the worker to be ready", func() bool { status, _ := worker.get(t, "/readyz"); return status == http.StatusOK })
	event := func(id, kind, dossier string) {
		t.Helper()
		body := fmt.Sprintf(`{"id":%q,"type":%q,"created_at":"2026-01-01T00:00:00Z","data":{"id":%q,"dossier_id":%q,"name":"%s"}}`,
			id, kind, dossier, dossier, canary)
		if status := receiver.post(t, body); status != http.StatusOK {
			t.Fatalf("the receiver answers %d", status)
		}
	}
	command := func(sql string, args ...any) {
		t.Helper()
		if _, err := w.pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}

	// LeadGrid in trouble: errors, answers cut short, pages of HTML.
	w.Change(func(s *leadgridtest.Settings) {
		s.Faults = leadgridtest.Faults{ErrorBefore: 0.1, Truncated: 0.1, BadGateway: 0.05}
	})
	ended := w.run(t, "sync", "--wait")
	ended.want(t, 0, "the mirror is equal")
	said["worker sync"] = ended.out + ended.errs
	w.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} })

	// Webhooks right, odd, broken and forged.
	event("evt_1", "dossier.updated", dossiers[0])
	event("evt_2", canary+".happened", dossiers[0])
	receiver.post(t, `{"id":"evt_3","type":"dossier.updated","data":{"name":"`+canary)
	receiver.post(t, `{"id":"evt_4","type":"dossier.updated","created_at":"`+canary+`","data":{"id":7}}`)
	forged := request(t, http.MethodPost, "http://"+receiver.webhooks+"/webhooks/leadgrid")
	forged.Header.Set("X-LeadGrid-Signature", "t=1,v1="+canary)
	if status, _ := send(t, forged); status < 400 {
		t.Errorf("a forged webhook gets %d", status)
	}

	// Commands that LeadGrid carries out, and refuses with its own words about a person whom the mirror does not know yet.
	late := canary + "-late@example.com"
	if _, err := w.CreateContact(leadgridtest.Fields{"full_name": canary, "email": late}); err != nil {
		t.Fatal(err)
	}
	command(`SELECT create_contact($1, $2)`, canary+" new", canary+"-new@example.com")
	command(`SELECT create_contact($1, $2)`, canary+" again", late)
	command(`SELECT create_dossier('candidate', $1, cv => $2)`, canary+" new", []byte("%PDF-1.4 "+canary))
	command(`SELECT update_dossier($1, jsonb_build_object('name', $2::text))`, dossiers[0], canary+" changed")
	eventually.True(t, "the commands to come to an end", func() (ended bool) {
		if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE state = 'refused') = 1 AND count(*) FILTER (WHERE state = 'done') = 3
			FROM commands`).Scan(&ended); err != nil {
			t.Fatal(err)
		}
		return ended
	})

	// A Postgres that quotes rows in its errors.
	command(`
		CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'no room for %', NEW USING DETAIL = NEW::text; END $$;
		CREATE TRIGGER poison BEFORE INSERT OR UPDATE ON dossiers FOR EACH ROW EXECUTE FUNCTION poison();
		ALTER TABLE notes ADD CONSTRAINT poison CHECK (content NOT LIKE '%poison%')`)
	if err := w.UpdateDossier(dossiers[0], leadgridtest.Fields{"name": canary + " poison"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddNote(dossiers[1], canary+" poison", true); err != nil {
		t.Fatal(err)
	}
	event("evt_5", "dossier.updated", dossiers[0])
	event("evt_6", "note.created", dossiers[1])
	eventually.True(t, "both jobs to fail", func() bool {
		var errors string
		if err := w.pool.QueryRow(t.Context(),
			`SELECT coalesce(string_agg(errors::text, ' '), '') FROM leadgrid_queue.river_job`).Scan(&errors); err != nil {
			t.Fatal(err)
		}
		said["River's errors"] = errors
		return strings.Contains(errors, "SQLSTATE P0001") && strings.Contains(errors, "SQLSTATE 23514")
	})

	eventually.True(t, "the traces of both", func() bool {
		said["traces"] = traces.said()
		return strings.Contains(said["traces"], "evt_6") && strings.Contains(said["traces"], "retried")
	})
	for _, path := range []string{"/metrics", "/readyz", "/"} {
		_, said["worker"+path] = worker.get(t, path, login(canary))
	}
	_, said["receiver/metrics"] = send(t, request(t, http.MethodGet, "http://"+receiver.admin+"/metrics"))
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"mappings"}} {
		ended := w.run(t, args...)
		said["worker "+strings.Join(args, " ")] = ended.out + ended.errs
	}
	w.env["DATABASE_URL"] = "postgres://nobody:" + canary + "@127.0.0.1:1/none"
	ended = w.run(t, "status")
	said["worker status without a database"] = ended.out + ended.errs
	said["worker run"], said["receiver"] = worker.logged(), receiver.logged()

	for who, text := range said {
		if text == "" {
			t.Errorf("%s said nothing: it proves nothing", who)
		}
		for line := range strings.Lines(text) {
			if strings.Contains(strings.ToLower(line), canary) {
				t.Errorf("%s tells a secret or of a person: %.400s", who, line)
			}
		}
	}
	if !strings.Contains(said["worker run"], "SQLSTATE P0001") {
		t.Errorf("the worker does not log why a job failed:\n%s", said["worker run"])
	}
}
