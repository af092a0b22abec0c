package leadgridtest

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The tables of a [Snapshot], and the first half of the keys in [Habits.Omits].
const (
	Dossiers = "dossiers"
	Contacts = "contacts"
	Links    = "dossier_contacts"
	Flows    = "flows"
	Stages   = "stages"
	Notes    = "notes"
)

var tables = []string{Dossiers, Contacts, Links, Flows, Stages, Notes}

// omitted keys by table.
type omitted map[string]map[string]bool

func omit(lists ...[]string) omitted {
	o := omitted{}
	for _, list := range lists {
		for _, item := range list {
			table, key, _ := strings.Cut(item, ".")
			if o[table] == nil {
				o[table] = map[string]bool{}
			}
			o[table][key] = true
		}
	}
	return o
}

// writer writes objects as JSON, as the habits say.
type writer struct {
	buf       []byte
	omit      omitted
	omitNulls bool
	surplus   bool // add fields nobody knows
	layout    string
	offset    *time.Location
}

// layouts of the Timestamps habit. The zone is written as Z or as an offset by the layout.
var layouts = map[string]string{
	"":         "2006-01-02T15:04:05.000Z",
	"millis":   "2006-01-02T15:04:05.000Z",
	"seconds":  "2006-01-02T15:04:05Z",
	"micros":   "2006-01-02T15:04:05.000000Z",
	"nanos":    "2006-01-02T15:04:05.000000000Z",
	"offset":   "2006-01-02T15:04:05.000-07:00",
	"postgres": "2006-01-02T15:04:05.999999-07:00",
}

// precision is the resolution of a Timestamps habit; the state keeps times no finer.
func precision(timestamps string) time.Duration {
	switch timestamps {
	case "seconds":
		return time.Second
	case "micros", "nanos", "postgres":
		return time.Microsecond
	}
	return time.Millisecond
}

var amsterdam = time.FixedZone("", 2*60*60)

func (h *Habits) writer(omit omitted, rng *rand.Rand) *writer {
	name := h.Timestamps
	if name == "mixed" {
		name = []string{"millis", "micros", "nanos", "offset", "postgres"}[rng.IntN(5)]
	}
	w := &writer{omit: omit, omitNulls: h.OmitNulls, surplus: h.UnknownFields, layout: layouts[name], offset: time.UTC}
	if name == "offset" {
		w.offset = amsterdam
	}
	return w
}

// object writes the fields that each visits.
func (w *writer) object(table, id string, each func(visit)) {
	gone := w.omit[table]
	w.buf = append(w.buf, '{')
	start := len(w.buf)
	each(func(key string, value any) {
		if gone != nil && gone[key] {
			return
		}
		before := len(w.buf)
		if before > start {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(w.buf, '"')
		w.buf = append(w.buf, key...)
		w.buf = append(w.buf, '"', ':')
		if !w.value(id, value) && w.omitNulls {
			w.buf = w.buf[:before]
		}
	})
	if w.surplus {
		if len(w.buf) > start {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(w.buf, surplus(id)...)
	}
	w.buf = append(w.buf, '}')
}

// value writes one value and reports whether it was other than null.
func (w *writer) value(id string, value any) bool {
	switch v := value.(type) {
	case string:
		w.buf = appendText(w.buf, v)
		return true
	case *string:
		if v != nil {
			w.buf = appendText(w.buf, *v)
			return true
		}
	case *number:
		if v != nil {
			w.buf = append(w.buf, *v...)
			return true
		}
	case bool:
		w.buf = strconv.AppendBool(w.buf, v)
		return true
	case int:
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
		return true
	case instant:
		w.buf = append(w.buf, '"')
		w.buf = v.time().In(w.offset).AppendFormat(w.buf, w.layout)
		w.buf = append(w.buf, '"')
		return true
	case []string:
		w.buf = append(w.buf, '[')
		for i, text := range v {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.buf = appendText(w.buf, text)
		}
		w.buf = append(w.buf, ']')
		return true
	case []stage:
		w.buf = append(w.buf, '[')
		for i := range v {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.object(Stages, v[i].id, func(visit visit) { v[i].each(id, visit) })
		}
		w.buf = append(w.buf, ']')
		return true
	}
	w.buf = append(w.buf, "null"...)
	return false
}

// surplus returns unknown fields. They depend only on the id, so that an unchanged object looks the same each time.
func surplus(id string) string {
	h := strconv.FormatUint(hash(id)%1_000_000, 10)
	return `"x_score":` + h + `.00000000000000000001,"x_tags":["` + h + `",{"deep":[null,true]}],"x_label":null`
}

// appendText writes a JSON string. The bytes of a lone surrogate (ED A0..BF xx, which is not UTF-8) are
// written as its \ud8xx escape, so that even such text can be stored and served.
func appendText(buf []byte, text string) []byte {
	buf = append(buf, '"')
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				buf = append(buf, '\\', c)
			case c == '\n':
				buf = append(buf, `\n`...)
			case c < ' ':
				buf = append(buf, `\u00`...)
				buf = append(buf, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			default:
				buf = append(buf, c)
			}
			i++
			continue
		}
		if c == 0xED && i+2 < len(text) && text[i+1] >= 0xA0 {
			unit := 0xD000 | int64(text[i+1]&0x3F)<<6 | int64(text[i+2]&0x3F)
			buf = append(buf, `\u`...)
			buf = strconv.AppendInt(buf, unit, 16)
			i += 3
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		buf = utf8.AppendRune(buf, r)
		i += size
	}
	return append(buf, '"')
}

// plain turns a visited value into what a [Snapshot] holds.
func plain(value any) any {
	switch v := value.(type) {
	case *string:
		if v != nil {
			return *v
		}
		return nil
	case *number:
		if v != nil {
			return json.Number(*v)
		}
		return nil
	case int:
		return json.Number(strconv.Itoa(v))
	case instant:
		return v.time()
	case []string:
		return append([]string{}, slices.Clone(v)...)
	}
	return value
}
