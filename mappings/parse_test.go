package mappings

import (
	"encoding/json"
	"strings"
	"testing"
)

const testKey = "not a real key, only long"

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"a table nobody knows", "contact:\n  fields:\n    phone: leave out\n",
			`line 1, column 1: there is no table "contact": it is one of flows, stages, dossiers, contacts, dossier_contacts, notes`},
		{"a section nobody knows", "contacts:\n  field:\n    phone: leave out\n",
			`line 2, column 3: "field" means nothing here: below a table stand fields:, columns: and raw:`},
		{"a treatment nobody knows", "contacts:\n  fields:\n    phone: drop\n", `line 3, column 12: contacts.phone: "drop" is none of leave out, hash, domain`},
		{"a field the mirror needs", "dossiers:\n  fields:\n    updated_at: leave out\n", `line 3, column 5: dossiers.updated_at stays as it is: the mirror needs it`},
		{"a type nobody knows", "contacts:\n  columns:\n    score: {from: custom.score, type: int}\n",
			`contacts.score: "int" is no type: it is one of text, text[], numeric, boolean, timestamptz, jsonb, or none`},
		{"another type for a column", "contacts:\n  columns:\n    phone: numeric\n", `line 3, column 12: contacts.phone is text and cannot become numeric`},
		{"a bad name", "contacts:\n  columns:\n    _score: numeric\n", `line 3, column 5: "_score" is no name for a column`},
		{"raw", "contacts:\n  raw: drop\n", `line 2, column 8: raw: is all, or mapped`},
		{"no YAML", "contacts:\n  fields: [\n", `[2:11]`},
		{"a list", "- contacts\n", `line 1, column 1: the file names tables`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.file), testKey)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v\nwant %s", err, tc.want)
			}
		})
	}
	_, err := Parse([]byte("contacts:\n  fields:\n    email: hash\n    nope: x\n"), "")
	if err == nil || !strings.Contains(err.Error(), "LEADGRID_HASH_KEY") || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("it says %v, want both mistakes, the missing key and line 4", err)
	}
}

func TestShape(t *testing.T) {
	m, err := Parse([]byte(`
contacts:
  raw: mapped
  fields: {phone: leave out, email: domain, full_name: hash, custom.secret: leave out}
  columns:
    linkedin: {from: linkedin_url, type: text}
    linkedin_url: none
    score: {from: custom.score, type: numeric}
`), testKey)
	if err != nil {
		t.Fatal(err)
	}
	contacts := m.Table(Contacts)
	var object Object
	if err := json.Unmarshal([]byte(`{"id":"c","full_name":"Ana","email":"Ana@X.be","phone":"1","linkedin_url":"u","custom":{"score":7,"secret":"s"},"new":"n"}`), &object); err != nil {
		t.Fatal(err)
	}
	once := contacts.Shape(object)
	text, err := json.Marshal(once)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"custom":{"score":7},"email":"@x.be","full_name":"hmac:eb98dc9fcd2d64d8b8ef0ae7e2e54ac8","id":"c","linkedin_url":"u"}`
	if twice, err := json.Marshal(contacts.Shape(once)); err != nil || string(twice) != string(text) {
		t.Errorf("shaped twice it is %s (%v), once %s", twice, err, text)
	}
	if hidden := string(once["full_name"]); !hashed.MatchString(strings.Trim(hidden, `"`)) {
		t.Errorf("the name is kept as %s", hidden)
	}
	once["full_name"] = json.RawMessage(`"hmac:eb98dc9fcd2d64d8b8ef0ae7e2e54ac8"`)
	if text, _ = json.Marshal(once); string(text) != want {
		t.Errorf("shaped it is\n%s, want\n%s", text, want)
	}
	row := contacts.Row(once)
	for i, column := range contacts.Columns {
		switch column.Name {
		case "linkedin", "score", "email":
			if row[i] == nil || *row[i] != map[string]string{"linkedin": "u", "score": "7", "email": "@x.be"}[column.Name] {
				t.Errorf("column %s is %v", column.Name, row[i])
			}
		}
	}
	payload, ok := m.Payload([]byte(`{"id":"e","type":"dossier.updated","data":{"dossier":{"id":"d","phone":"1","list":[{"email":"a@b.c"}]},"x":1},"who":"Ana"}`))
	if want := `{"data":{"dossier":{"id":"d"}},"id":"e","type":"dossier.updated"}`; !ok || string(payload) != want {
		t.Errorf("the payload is kept as %s, want %s", payload, want)
	}
}
