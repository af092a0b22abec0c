package mappings

import (
	"encoding/json"
	"strings"
	"testing"
)

const testKey = "not a real key, only long"

// TestParseSaysWhatIsWrongAndWhere holds the mistakes a person would make, and what they are told.
func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"a table nobody knows", "contact:\n  fields:\n    phone: leave out\n",
			`line 1, column 1: there is no table "contact": it is one of flows, stages, dossiers, contacts, dossier_contacts, notes`},
		{"a section nobody knows", "contacts:\n  field:\n    phone: leave out\n",
			`line 2, column 3: "field" means nothing here: below a table stand fields:, columns:, raw: and history:`},
		{"a field where a section belongs", "contacts:\n  phone: leave out\n",
			`line 2, column 3: "phone" means nothing here: below a table stand fields:, columns:, raw: and history:`},
		{"a treatment nobody knows", "contacts:\n  fields:\n    phone: drop\n", `line 3, column 12: contacts.phone: "drop" is none of leave out, hash, domain`},
		{"a treatment in other letters", "contacts:\n  fields:\n    phone: leave_out\n", `line 3, column 12: contacts.phone: "leave_out" is none of leave out, hash, domain`},
		{"no treatment", "contacts:\n  fields:\n    phone:\n", `line 3, column 12: contacts.phone: "" is none of leave out, hash, domain`},
		{"fields as a list", "contacts:\n  fields:\n    - phone\n", `line 3, column 5: fields: names fields, each with leave out, hash or domain`},
		{"the same table twice", "contacts:\n  raw: mapped\ncontacts:\n  raw: all\n", `[3:1] mapping key "contacts" already defined at [1:1]`},
		{"a field the mirror needs", "dossiers:\n  fields:\n    updated_at: leave out\n", `line 3, column 5: dossiers.updated_at stays as it is: the mirror needs it`},
		{"the key", "contacts:\n  key: [email]\n", `line 2, column 3: the key of contacts stays as it is`},
		{"a type nobody knows", "contacts:\n  columns:\n    score: {from: custom.score, type: int}\n",
			`line 3, column 12: contacts.score: "int" is no type: it is one of text, text[], numeric, boolean, timestamptz, jsonb, or none`},
		{"no type", "contacts:\n  columns:\n    score: {from: custom.score}\n", `line 3, column 12: contacts.score: "" is no type`},
		{"a part nobody knows", "contacts:\n  columns:\n    score: {path: custom.score, type: text}\n", `line 3, column 13: a column has from: and type:, not "path"`},
		{"another type for a column", "contacts:\n  columns:\n    phone: numeric\n",
			`line 3, column 12: contacts.phone is text and cannot become numeric, views may use it: give the new column another name`},
		{"a bad name", "contacts:\n  columns:\n    _score: numeric\n",
			`line 3, column 5: "_score" is no name for a column: use lower-case letters, digits and _, and begin with a letter`},
		{"a name with capitals", "contacts:\n  columns:\n    LinkedIn: {from: linkedin_url, type: text}\n", `line 3, column 5: "LinkedIn" is no name for a column`},
		{"a name that histories have", "contacts:\n  columns:\n    valid_to: timestamptz\n",
			`line 3, column 5: contacts.valid_to is a column of every table's history: give yours another name`},
		{"none of what is not there", "contacts:\n  columns:\n    fax: none\n", `line 3, column 5: contacts has no column "fax" that could be none`},
		{"raw", "contacts:\n  raw: none\n",
			`line 2, column 8: raw: is all, mapped (_raw holds only what columns hold) or drop (it holds nothing), not "none"`},
		{"raw: drop with a field in two types", "contacts:\n  raw: drop\n  columns:\n    phone_number: {from: phone, type: numeric}\n",
			`line 2, column 8: raw: drop does not go with two columns of different types from one field: contacts.phone and phone_number both come from phone`},
		{"raw: drop with a column inside another", "contacts:\n  columns:\n    custom: jsonb\n    score: {from: custom.score, type: numeric}\n  raw: drop\n",
			`line 5, column 8: raw: drop does not go with a column that lies inside another one: contacts.custom comes from custom, and score from custom.score`},
		{"history", "contacts:\n  history: yes please\n", `line 2, column 12: history: is on (every version of a row is kept) or off, not "yes please"`},
		{"a tab", "contacts:\n\traw: mapped\n", `[2:1] found character '` + "\t" + `' that cannot start any token`},
		{"no YAML", "contacts:\n  fields: [\n", `[2:11]`},
		{"a list", "- contacts\n", `line 1, column 1: the file names tables: write ` + "`contacts:`" + `, and below it what is different`},
		{"a word", "contacts\n", `line 1, column 1: the file names tables`},
		{"two mistakes", "contacts:\n  fields:\n    email: hsah\n    id: hash\n",
			`line 3, column 12: contacts.email: "hsah" is none of leave out, hash, domain` + "\n" + `line 4, column 5: contacts.id stays as it is: the mirror needs it`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.file), testKey)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("it says %v\nwant %s", err, tc.want)
			}
		})
	}
	for _, key := range []string{"", "short"} {
		_, err := Parse([]byte("contacts:\n  fields:\n    email: hash\n    nope: x\n"), key)
		if err == nil || !strings.Contains(err.Error(), "line 3, column 12: contacts.email is to be hashed: set LEADGRID_HASH_KEY, to 16 characters or more\nline 4") {
			t.Errorf("with the key %q it says %v, want both mistakes", key, err)
		}
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
