package leadgridapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

func TestDecode(t *testing.T) {
	const raw = `{ "id":"d1","organization_id":"o","type":"sales","name":"n","email":"e","phone":"p","city":"c",
		"company":"co","role":"r","contact_person":"cp","deal_size":12345678901234567890.10,"deal_currency":"EUR",
		"status":"active","flow_id":"f","current_stage_id":"s","assigned_to":null,"intake_notes":"i","cv_url":"u",
		"contact_id":"k","created_at":"2026-04-15T10:00:00.123456+02:00","updated_at":"2026-04-15T08:00:01Z","new":1e999 }`
	var got leadgridapi.Dossier
	if err := json.Unmarshal([]byte(raw), &got); err != nil {
		t.Fatal(err)
	}
	want := leadgridapi.Dossier{
		ID: "d1", OrganizationID: "o", Type: "sales", Name: "n", Email: "e", Phone: "p", City: "c",
		Company: "co", Role: "r", ContactPerson: "cp", DealSize: "12345678901234567890.10", DealCurrency: "EUR",
		Status: "active", FlowID: "f", CurrentStageID: "s", IntakeNotes: "i", CVURL: "u", ContactID: "k",
		CreatedAt: got.CreatedAt, UpdatedAt: time.Date(2026, 4, 15, 8, 0, 1, 0, time.UTC),
		Raw: json.RawMessage(raw),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if at := time.Date(2026, 4, 15, 8, 0, 0, 123456000, time.UTC); !got.CreatedAt.Equal(at) {
		t.Errorf("created at %v", got.CreatedAt)
	}
}

// Promise 12: what is odd about a field stays with that field, and Raw has it.
func TestPromise12_OddFieldsDoNotSpoilTheObject(t *testing.T) {
	for _, odd := range []string{`7`, `"x"`, `null`, `true`, `[]`, `["a", 7]`, `{}`, `1e999`, `""`, `"2026-13-45"`, `"\ud800"`} {
		for _, object := range []any{
			leadgridapi.Dossier{}, leadgridapi.Contact{}, leadgridapi.Link{},
			leadgridapi.Flow{}, leadgridapi.Stage{}, leadgridapi.Note{},
		} {
			kind := reflect.TypeOf(object)
			for field := range kind.Fields() {
				name := field.Tag.Get("json")
				if name == "-" {
					continue
				}
				t.Run(fmt.Sprintf("%s.%s=%s", kind.Name(), name, odd), func(t *testing.T) {
					raw := fmt.Sprintf(`{"%s": %s, "other": 1}`, name, odd)
					got := reflect.New(kind)
					if err := json.Unmarshal([]byte(raw), got.Interface()); err != nil {
						t.Fatal(err)
					}
					if kept := got.Elem().FieldByName("Raw").Bytes(); string(kept) != raw {
						t.Errorf("Raw is %s", kept)
					}
				})
			}
		}
	}
}

func TestOddFields(t *testing.T) {
	var got leadgridapi.Contact
	raw := `{"id": 7, "full_name": 7, "NOTES": "x", "kind": ["a", 7], "dossier_count": 1.5, "created_at": "yesterday"}`
	if err := json.Unmarshal([]byte(raw), &got); err != nil {
		t.Fatal(err)
	}
	if want := (leadgridapi.Contact{ID: "7", Raw: json.RawMessage(raw)}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestTexts(t *testing.T) {
	for raw, want := range map[string]string{
		`"plain é"`:            "plain é",
		`"esc\u00e9\"\\\n"`:    "escé\"\\\n",
		`"\ud83d\ude00"`:       "😀",
		`"lone \ud800"`:        "lone \ufffd",
		`"nul \u0000"`:         "nul \x00",
		"\"Latin-1 \xeb\"":     "Latin-1 \ufffd",
		`"x\\"`:                `x\`,
		`"looks like {}[],: "`: "looks like {}[],: ",
	} {
		var got leadgridapi.Note
		if err := json.Unmarshal([]byte(`{"id": 1, "content" : `+raw+` ,"dossier_id":"d"}`), &got); err != nil {
			t.Fatal(err)
		}
		if got.Content != want || got.DossierID != "d" {
			t.Errorf("%s: got %q", raw, got.Content)
		}
	}
}

func TestOddRowsDoNotSpoilThePage(t *testing.T) {
	client := serve(t, answer(200, `{"data": [{"id": "1", "stages": [{"id": "s", "position": 2}, 7]}, null, "x"], "meta": {"total": "many", "per_page": 25, "next": "/"}, "links": {}}`))
	page, err := client.ListFlows(t.Context(), leadgridapi.FlowFilter{}, leadgridapi.PageRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 3 || page.Items[0].ID != "1" || string(page.Items[1].Raw) != "null" || string(page.Items[2].Raw) != `"x"` {
		t.Errorf("got %+v", page.Items)
	}
	if stages := page.Items[0].Stages; len(stages) != 2 || stages[0].ID != "s" || stages[0].Position != 2 || string(stages[1].Raw) != "7" {
		t.Errorf("got %+v", stages)
	}
	if page.Meta.Total != nil || *page.Meta.PerPage != 25 || !strings.Contains(string(page.Meta.Raw), `"next"`) || !strings.Contains(string(page.Raw), `"links"`) {
		t.Errorf("got %+v", page.Meta)
	}
}

func BenchmarkListDossiers(b *testing.B) {
	row := `{"id":"7b0e3c51-9d0c-4d55-9a53-9c1a3f6f6a01","organization_id":"o","type":"sales","name":"Jan Peeters","email":"jan@example.com",
		"phone":"+32 470 00 00 00","city":"Gent","company":"Acme","role":"CFO","status":"active","flow_id":"f","current_stage_id":"s",
		"assigned_to":null,"intake_notes":"` + strings.Repeat("note ", 40) + `","created_at":"2026-04-15T08:00:01Z","updated_at":"2026-04-15T08:00:01Z"}`
	body := `{"data": [` + strings.Repeat(row+",", 99) + row + `]}`
	client, err := leadgridapi.New("http://leadgrid.test", testKey, leadgridapi.WithHTTPClient(&http.Client{
		Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}, nil
		}),
	}))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		page, err := client.ListDossiers(b.Context(), leadgridapi.DossierFilter{}, leadgridapi.PageRequest{})
		if err != nil || len(page.Items) != 100 {
			b.Fatal(err)
		}
	}
}

// Whatever valid JSON comes, decoding sees in it what encoding/json sees; and
// whatever comes, it ends.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id": 7, "name": "\u0000\ud800", "Name": "x", "name" : "last" , "kind": [], "deal_size": -1.50e3 }`))
	f.Add([]byte(`{"a\"\\": {"name": "]}"}, "id":"\\", "updated_at": null, "x": [[{}], "\\\""]}`))
	f.Add(eventOfSize(600))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got leadgridapi.Dossier
		if !json.Valid(raw) {
			_ = got.UnmarshalJSON(raw)
			return
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			members = nil
		}
		text := func(key string) (s string) {
			if json.Unmarshal(members[key], &s) != nil {
				s = ""
			}
			return s
		}
		id := text("id")
		if number := json.Number(""); len(members["id"]) > 0 && members["id"][0] != '"' && json.Unmarshal(members["id"], &number) == nil {
			id = number.String()
		}
		if got.ID != id || got.Name != text("name") || got.CVURL != text("cv_url") {
			t.Errorf("got %q, %q, %q\nwant %q, %q, %q", got.ID, got.Name, got.CVURL, id, text("name"), text("cv_url"))
		}
	})
}

// A page is read if its body is JSON to encoding/json, and holds the elements that encoding/json finds.
func FuzzPage(f *testing.F) {
	for _, body := range []string{
		`{"data": [ {"id":"a","x":[1,{"y":[]}]} , 7,"b",null ],"meta":{"total":3}}`, `{"data":{},"data":[[1e999,-0.5E+07],"\u00e9\ud800\u0000"]}`,
		`{"data":[1],"d\u0061ta":[2]}`, `{}`, `[]`, ` {"data":[]} x`, `{"data":[],}`, `{"data":[1,]}`, `{"data":[01]}`, `{"data":[tru]}`, `{"data":[1.]}`,
		`{"data":["\x"]}`, `{"data":["\u12g4"]}`, "{\"data\":[\"\t\"]}", "{\"data\":[\"\xff\"]}", "\xef\xbb\xbf{\"data\":[]}", `{"data":[{"a" 1}]}`, `{"data":[{a:1}]}`,
		`{"data":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`, `{"data":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
	} {
		f.Add([]byte(body))
	}
	var body []byte
	client, err := leadgridapi.New("http://leadgrid.test", testKey, leadgridapi.WithHTTPClient(&http.Client{
		Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(body))}, nil
		}),
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		body = fuzzed
		page, err := client.ListRawDossiers(t.Context(), leadgridapi.DossierFilter{}, leadgridapi.PageRequest{})
		var whole map[string]json.RawMessage
		var want []json.RawMessage
		isPage := json.Unmarshal(body, &whole) == nil && json.Unmarshal(whole["data"], &want) == nil && want != nil
		if (err == nil) != isPage {
			t.Fatalf("%v; to encoding/json it is a page: %v", err, isPage)
		}
		if isPage && !slices.EqualFunc(page.Items, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("got %s, want %s", page.Items, want)
		}
	})
}

// Many servers write an empty list as null; without a count it may as well be a failure.
func TestNullForAnEmptyList(t *testing.T) {
	for body, good := range map[string]bool{
		`{"data": null, "meta": {"total": 0, "page": 1}}`:             true,
		`{"data": [{"id": "n"}], "data": null, "meta": {"total": 0}}`: true,
		`{"data": null, "meta": {}}`:                                  false,
		`{"data": null}`:                                              false,
		`{"data": {}, "meta": {"total": 0}}`:                          false,
		`null`:                                                        false,
	} {
		page, err := serve(t, answer(200, body)).ListNotes(t.Context(), "d1", leadgridapi.PageRequest{})
		if good != (err == nil) || len(page.Items) != 0 {
			t.Errorf("%s: got %v, %v", body, page, err)
		}
	}
}
