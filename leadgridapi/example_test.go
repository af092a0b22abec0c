package leadgridapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

// pretend returns a client for a server that prints what it is asked and gives
// the answers in turn, and a function that ends it.
func pretend(answers ...string) (client *leadgridapi.Client, end func()) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "application/json" {
			body = nil
		}
		fmt.Println(strings.TrimSpace(fmt.Sprintf("> %s %s %s", r.Method, r.URL, body)))
		_, _ = io.WriteString(w, answers[0])
		answers = answers[1:]
	}))
	client, err := leadgridapi.New(server.URL, "lg_live_test")
	if err != nil {
		log.Fatal(err)
	}
	return client, server.Close
}

var ctx = context.Background()

func Example() {
	client, err := leadgridapi.New(leadgridapi.DefaultBaseURL, os.Getenv("LEADGRID_API_KEY"))
	if errors.Is(err, leadgridapi.ErrNoKey) {
		fmt.Println("set LEADGRID_API_KEY")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	dossier, err := client.CreateDossier(ctx, leadgridapi.DossierInput{
		Type: leadgridapi.TypeCandidate,
		Name: "Jan Peeters",
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dossier.ID)
}

func ExampleNew() {
	_, err := leadgridapi.New("leadgrid.io/api/v1", "lg_live_test")
	fmt.Println(err)
	// Output: leadgrid: the base URL is not an absolute http or https URL
}

func ExampleWithKeyFunc() {
	key := func() string {
		content, _ := os.ReadFile("/run/secrets/leadgrid-key") // read again for each request
		return string(content)
	}
	client, err := leadgridapi.New(leadgridapi.DefaultBaseURL, "", leadgridapi.WithKeyFunc(key))
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Dossier(ctx, "d_1")
	fmt.Println(err)
	// Output: leadgrid: no API key
}

func ExampleClient_Dossiers() {
	client, end := pretend(`{"data": [{"id": "d_1", "name": "Jan Peeters"}, {"id": "d_2", "name": "Fatima El Amrani"}],
		"meta": {"total": 2, "page": 1, "per_page": 100}}`)
	defer end()
	for dossier, err := range client.Dossiers(ctx, leadgridapi.DossierFilter{Status: leadgridapi.StatusActive}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(dossier.ID, dossier.Name)
	}
	// Output:
	// > GET /dossiers?page=1&per_page=100&status=active
	// d_1 Jan Peeters
	// d_2 Fatima El Amrani
}

func ExampleClient_ListDossiers() {
	client, end := pretend(`{"data": [{"id": "d_26"}], "meta": {"total": 26, "page": 2, "per_page": 25}}`)
	defer end()
	page, err := client.ListDossiers(ctx, leadgridapi.DossierFilter{}, leadgridapi.PageRequest{Page: 2})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(page.Items), *page.Meta.Total)
	// Output:
	// > GET /dossiers?page=2
	// 1 26
}

func ExampleClient_Dossier() {
	client, end := pretend(`{"data": {"id": "d_1", "type": "sales", "deal_size": 12500.50, "deal_currency": "EUR", "score": 7}}`)
	defer end()
	dossier, err := client.Dossier(ctx, "d_1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dossier.DealSize, dossier.DealCurrency)
	fmt.Println(string(dossier.Raw)) // holds the score, which this package does not know
	// Output:
	// > GET /dossiers/d_1
	// 12500.50 EUR
	// {"id": "d_1", "type": "sales", "deal_size": 12500.50, "deal_currency": "EUR", "score": 7}
}

func ExampleClient_CreateDossier() {
	client, end := pretend(`{"data": {"id": "d_3"}}`, `{"data": {"id": "d_4"}}`)
	defer end()
	sale, err := client.CreateDossier(ctx, leadgridapi.DossierInput{
		Type:         leadgridapi.TypeSales,
		Name:         "Acme, new office",
		DealSize:     "12500.50",
		DealCurrency: "EUR",
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	candidate, err := client.CreateDossier(ctx, leadgridapi.DossierInput{
		Type: leadgridapi.TypeCandidate,
		Name: "Jan Peeters",
	}, &leadgridapi.CV{Filename: "peeters.pdf", Data: pdf}) // both or neither
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sale.ID, candidate.ID)
	// Output:
	// > POST /dossiers {"type":"sales","name":"Acme, new office","deal_size":12500.50,"deal_currency":"EUR"}
	// > POST /dossiers
	// d_3 d_4
}

func ExampleClient_UpdateDossier() {
	client, end := pretend(`{"data": {"id": "d_1", "current_stage_id": "s_2"}}`)
	defer end()
	dossier, err := client.UpdateDossier(ctx, "d_1", leadgridapi.Changes{
		"current_stage_id": "s_2", // moves the dossier
		"assigned_to":      nil,   // unassigns it; all other fields stay
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dossier.CurrentStageID)
	// Output:
	// > PATCH /dossiers/d_1 {"assigned_to":null,"current_stage_id":"s_2"}
	// s_2
}

func ExampleClient_ArchiveDossier() {
	client, end := pretend("", `{"data": {"id": "d_1", "status": "active"}}`)
	defer end()
	if err := client.ArchiveDossier(ctx, "d_1"); err != nil {
		log.Fatal(err)
	}
	restored, err := client.UpdateDossier(ctx, "d_1", leadgridapi.Changes{"status": leadgridapi.StatusActive})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(restored.Status)
	// Output:
	// > DELETE /dossiers/d_1
	// > PATCH /dossiers/d_1 {"status":"active"}
	// active
}

func ExampleClient_UploadCV() {
	client, end := pretend(`{"data": {"id": "d_1", "cv_url": "cvs/d_1.pdf"}}`)
	defer end()
	dossier, err := client.UploadCV(ctx, "d_1", leadgridapi.CV{Filename: "peeters.pdf", Data: pdf})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dossier.CVURL)

	_, err = client.UploadCV(ctx, "d_1", leadgridapi.CV{Filename: "peeters.pdf", Data: []byte("a Word document")})
	fmt.Println(err)
	// Output:
	// > POST /dossiers/d_1/cv
	// cvs/d_1.pdf
	// leadgrid: invalid input: the CV is not a PDF
}

func ExampleClient_UploadCVRaw() {
	client, end := pretend(`{"data": {"id": "d_1"}}`)
	defer end()
	if _, err := client.UploadCVRaw(ctx, "d_1", pdf); err != nil {
		log.Fatal(err)
	}
	// Output:
	// > POST /dossiers/d_1/cv
}

func ExampleClient_Contacts() {
	client, end := pretend(`{"data": [{"id": "c_1", "full_name": "An Claes", "kind": ["client", "partner"]}]}`, `{"data": []}`)
	defer end()
	for contact, err := range client.Contacts(ctx, leadgridapi.ContactFilter{
		Kinds:  []string{leadgridapi.KindClient, leadgridapi.KindPartner},
		Search: "claes",
	}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(contact.FullName, contact.Kind)
	}
	// Without a meta, only an empty page tells the end.

	// Output:
	// > GET /contacts?kind=client&kind=partner&page=1&per_page=100&search=claes
	// An Claes [client partner]
	// > GET /contacts?kind=client&kind=partner&page=2&per_page=100&search=claes
}

func ExampleClient_Contact() {
	client, end := pretend(`{"data": {"id": "c_1", "full_name": "An Claes", "dossier_count": 2}}`)
	defer end()
	contact, err := client.Contact(ctx, "c_1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(contact.FullName, contact.DossierCount)
	// Output:
	// > GET /contacts/c_1
	// An Claes 2
}

func ExampleClient_CreateContact() {
	server := httptest.NewServer(answer(409, `{"error": {"code": "duplicate_contact", "message": "an@example.com exists"}}`))
	defer server.Close()
	client, err := leadgridapi.New(server.URL, "lg_live_test")
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.CreateContact(ctx, leadgridapi.ContactInput{FullName: "An Claes", Email: "an@example.com"})
	if errors.Is(err, leadgridapi.ErrDuplicateContact) {
		fmt.Println(err)
	}
	// Output: leadgrid: POST /contacts: 409 duplicate_contact
}

func ExampleClient_UpdateContact() {
	client, end := pretend(`{"data": {"id": "c_1", "kind": ["client"]}}`)
	defer end()
	contact, err := client.UpdateContact(ctx, "c_1", leadgridapi.Changes{"kind": []string{leadgridapi.KindClient}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(contact.Kind)
	// Output:
	// > PATCH /contacts/c_1 {"kind":["client"]}
	// [client]
}

func ExampleClient_DeleteContact() {
	client, end := pretend("")
	defer end()
	if err := client.DeleteContact(ctx, "c_1"); err != nil {
		log.Fatal(err)
	}
	// Output: > DELETE /contacts/c_1
}

func ExampleClient_Links() {
	client, end := pretend(`{"data": [{"dossier_id": "d_1", "contact_id": "c_1", "role_on_dossier": "champion", "is_primary": true}],
		"meta": {"total": 1, "page": 1, "per_page": 100}}`)
	defer end()
	for link, err := range client.Links(ctx, "d_1") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(link.ContactID, link.RoleOnDossier, link.IsPrimary)
	}
	// Output:
	// > GET /dossiers/d_1/contacts?page=1&per_page=100
	// c_1 champion true
}

func ExampleClient_LinkContact() {
	client, end := pretend(`{"data": {"dossier_id": "d_1", "contact_id": "c_1"}}`)
	defer end()
	link, err := client.LinkContact(ctx, "d_1", leadgridapi.LinkInput{
		ContactID:     "c_1",
		RoleOnDossier: leadgridapi.RoleHiringManager,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(link.ContactID)
	// Output:
	// > POST /dossiers/d_1/contacts {"contact_id":"c_1","role_on_dossier":"hiring_manager"}
	// c_1
}

func ExampleClient_UnlinkContact() {
	client, end := pretend("")
	defer end()
	if err := client.UnlinkContact(ctx, "d_1", "c_1"); err != nil {
		log.Fatal(err)
	}
	// Output: > DELETE /dossiers/d_1/contacts/c_1
}

func ExampleClient_Flows() {
	client, end := pretend(`{"data": [{"id": "f_1", "name": "Sales", "stages": [{"id": "s_1", "name": "Lead"}, {"id": "s_2", "name": "Offer"}]}],
		"meta": {"total": 1, "page": 1, "per_page": 100}}`)
	defer end()
	for flow, err := range client.Flows(ctx, leadgridapi.FlowFilter{Type: leadgridapi.TypeSales}) {
		if err != nil {
			log.Fatal(err)
		}
		for _, stage := range flow.Stages {
			fmt.Println(flow.Name, stage.Name)
		}
	}
	// Output:
	// > GET /flows?page=1&per_page=100&type=sales
	// Sales Lead
	// Sales Offer
}

func ExampleClient_ListStages() {
	client, end := pretend(`{"data": [{"id": "s_1", "name": "Lead", "deadline_days": 7, "win_probability": 12.5}]}`)
	defer end()
	stages, err := client.ListStages(ctx, "f_1", leadgridapi.PageRequest{})
	if err != nil {
		log.Fatal(err)
	}
	for _, stage := range stages.Items {
		fmt.Println(stage.Name, *stage.DeadlineDays, stage.WinProbability)
	}
	// Output:
	// > GET /flows/f_1/stages
	// Lead 7 12.5
}

func ExampleClient_Notes() {
	client, end := pretend(`{"data": [{"id": "n_1", "content": "Called back."}], "meta": {"total": 1, "page": 1, "per_page": 100}}`)
	defer end()
	for note, err := range client.Notes(ctx, "d_1") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(note.Content)
	}
	// Output:
	// > GET /dossiers/d_1/notes?page=1&per_page=100
	// Called back.
}

func ExampleClient_AddNote() {
	client, end := pretend(`{"data": {"id": "n_2"}}`)
	defer end()
	note, err := client.AddNote(ctx, "d_1", leadgridapi.NoteInput{Content: "Sent the offer.", IsInternal: new(false)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(note.ID)
	// Output:
	// > POST /dossiers/d_1/notes {"content":"Sent the offer.","is_internal":false}
	// n_2
}

func ExampleRateLimitError() {
	server := httptest.NewServer(answer(429, "", "Retry-After", "7"))
	defer server.Close()
	client, err := leadgridapi.New(server.URL, "lg_live_test")
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.Dossier(ctx, "d_1")
	if limited, ok := errors.AsType[*leadgridapi.RateLimitError](err); ok {
		fmt.Println("again in", limited.RetryAfter)
	}
	// Output: again in 7s
}

// A server checks all it can before it reads the body.
func ExampleVerifier() {
	verifier, err := leadgridapi.NewVerifier([]string{"the new secret", "the old one"}, leadgridapi.DefaultTolerance)
	if err != nil {
		log.Fatal(err)
	}
	receive := func(w http.ResponseWriter, r *http.Request) {
		signature, err := leadgridapi.ParseSignature(r.Header.Values(leadgridapi.SignatureHeader))
		if err == nil {
			err = verifier.CheckAge(signature, time.Now())
		}
		if err != nil {
			http.Error(w, "not signed by LeadGrid", http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "too large, or cut short", http.StatusBadRequest)
			return
		}
		if err := verifier.Check(signature, body); err != nil {
			http.Error(w, "not signed by LeadGrid", http.StatusUnauthorized)
			return
		}
		event, err := leadgridapi.ParseEvent(body)
		fmt.Println(event.Type, event.DossierID, err)
	}

	body := `{"id": "evt_1", "type": "note.created", "data": {"id": "n_1", "dossier_id": "d_1"}}`
	for _, secret := range []string{"the old one", "a guess"} {
		request := httptest.NewRequest("POST", "/webhooks/leadgrid", strings.NewReader(body))
		request.Header.Set(leadgridapi.SignatureHeader, leadgridapi.Sign(secret, time.Now(), []byte(body)))
		answer := httptest.NewRecorder()
		receive(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// note.created d_1 <nil>
	// 200
	// 401
}

func ExampleParseEvent() {
	event, err := leadgridapi.ParseEvent([]byte(`{"id": "evt_1", "type": "dossier.stage_changed", "created_at": "2026-04-15T10:00:00Z",
		"data": {"id": "d_1", "current_stage_id": "s_2"}}`))
	fmt.Println(event.Type, event.DossierID, event.StageID, err)

	_, err = leadgridapi.ParseEvent([]byte(`{"id": "evt_1", "ID": "evt_2"}`))
	fmt.Println(err)
	// Output:
	// dossier.stage_changed d_1 s_2 <nil>
	// leadgrid: odd event: a key comes twice
}
