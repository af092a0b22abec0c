package mirror

import (
	"bytes"
	"slices"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// fields are an object's keys and values, sorted by key, each key once: what a mappings.Object holds, without the cost of a map
// for each of the many objects that turn out to be the same as before.
type fields []field

type field struct{ key, value []byte }

// fieldsIn takes an object apart, which must be valid JSON, into room. Where a key comes twice, the last one counts.
func fieldsIn(object []byte, room fields) (fields, bool) {
	all, ok := leadgridapi.Members(object)
	room = room[:0]
	for key, value := range all {
		room = append(room, field{key, value})
	}
	slices.SortStableFunc(room, func(a, b field) int { return bytes.Compare(a.key, b.key) })
	kept := room[:0]
	for _, f := range room {
		if n := len(kept); n > 0 && bytes.Equal(kept[n-1].key, f.key) {
			kept[n-1] = f
			continue
		}
		kept = append(kept, f)
	}
	return kept, ok
}

// fieldsOf gives the fields of an object that has been taken apart.
func fieldsOf(object mappings.Object) fields {
	all := make(fields, 0, len(object))
	for _, key := range sortedKeys(object) {
		all = append(all, field{[]byte(key), object[key]})
	}
	return all
}

// get gives the value of a key, nil where there is none.
func (f fields) get(key string) []byte {
	i, ok := slices.BinarySearchFunc(f, key, func(f field, key string) int { return bytes.Compare(f.key, []byte(key)) })
	if !ok {
		return nil
	}
	return f[i].value
}
