package mirror_test

import (
	"fmt"
	"strings"
	"testing"
)

// Many new rows go in by COPY, in binary; few by an upsert, in text. Whatever LeadGrid sends, Postgres must understand the same.
func TestPromise12_CopiedRowsAreAsOthersAre(t *testing.T) {
	f := newFixture(t).under("dossiers:\n  columns:\n    flag: boolean\n    extra: jsonb\n    tags: {from: custom.tags, type: 'text[]'}\n")
	values := []string{
		`null`, `""`, `"plain"`, `"é \u00e9 \ud83d\ude00 \\ \" \n \t"`, `"nul\u0000 and \ud800"`, `true`, `false`, `"true"`,
		`0`, `-0`, `0.00`, `-0.50`, `1`, `100`, `10000`, `123456789.000012345678901234567890`, `-9999.9999`, `1e5`, `1.50E+1`, `12345e-7`, `0e9`,
		`"12.50"`, `" 7 "`, `"seven"`, `1` + strings.Repeat("0", 400), `1e999`, `1e-999`, `1e5000`,
		`[]`, `["a",null,"b,{}\"\\ c",7,["d"]]`, `{"a":[1.0,"\u0000"]}`, `{"b":1}`,
		`"2026-05-01T10:00:00Z"`, `"2026-05-01t10:00:00.1234567+02:00"`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59.9999999Z"`, `"1969-12-31T23:59:59.5Z"`, `"soon"`,
	}
	var copied []string
	for i, value := range values {
		object := fmt.Sprintf(`{"id":"%%s%d","name":%[2]s,"deal_size":%[2]s,"created_at":%[2]s,"flag":%[2]s,"extra":%[2]s,"custom":{"tags":%[2]s}}`, i, value)
		copied = append(copied, fmt.Sprintf(object, "copied "))
		f.apply(list(f.begin(), fmt.Sprintf(object, "one ")))
	}
	f.apply(list(f.begin(), copied...))
	const row = `(SELECT concat_ws(' | ', name, deal_size, created_at, flag, extra, tags, _raw - 'id', _deleted_at, _erased_at,
		replace(convert_from(_original, 'UTF8'), split_part(d.id, ' ', 1), '')) FROM dossiers d WHERE d.id = $1)`
	for i, value := range values {
		f.want("copied "+value, f.one(`SELECT `+row, fmt.Sprint("copied ", i)), f.one(`SELECT `+row, fmt.Sprint("one ", i)))
	}
	f.want("all rows", f.one(`SELECT count(*)::text FROM dossiers WHERE _changed_at > now() - interval '1 hour' AND _observed > 0`), fmt.Sprint(2*len(values)))
	f.want("unchanged", fmt.Sprint(f.apply(list(f.begin(), copied...)).Unchanged), fmt.Sprint(len(values)))
}
