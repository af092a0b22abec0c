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

// fieldsIn takes an object apart, which must be valid JSON.
func fieldsIn(object []byte) (fields, bool) { return new(splitter).split(object) }

// splitter takes objects apart one after the other. Those of a page show the same keys in the same order as a rule: the order in
// which they are sorted is found once.
type splitter struct {
	raw, sorted fields
	keys        [][]byte // of the object for which order was found
	order       []int    // where in raw each of its sorted fields is
	times       int      // order was found
}

// split takes an object apart, which must be valid JSON. Where a key comes twice, the last one counts. The fields are good until
// the next split.
func (s *splitter) split(object []byte) (fields, bool) {
	all, ok := leadgridapi.Members(object)
	s.raw = s.raw[:0]
	for key, value := range all {
		s.raw = append(s.raw, field{key, value})
	}
	if !slices.EqualFunc(s.raw, s.keys, func(f field, key []byte) bool { return bytes.Equal(f.key, key) }) {
		s.sort()
	}
	s.sorted = s.sorted[:0]
	for _, i := range s.order {
		s.sorted = append(s.sorted, s.raw[i])
	}
	return s.sorted, ok
}

func (s *splitter) sort() {
	s.keys, s.order = s.keys[:0], s.order[:0]
	s.times++
	for i, f := range s.raw {
		// A copy, as the splitter may outlive the page.
		s.keys, s.order = append(s.keys, bytes.Clone(f.key)), append(s.order, i)
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return bytes.Compare(s.keys[a], s.keys[b]) })
	once := s.order[:0]
	for _, i := range s.order {
		if n := len(once); n > 0 && bytes.Equal(s.keys[once[n-1]], s.keys[i]) {
			once[n-1] = i
			continue
		}
		once = append(once, i)
	}
	s.order = once
}

// fieldsOf gives the fields of an object that has been taken apart.
func fieldsOf(object mappings.Object) fields {
	all := make(fields, 0, len(object))
	for _, key := range sortedKeys(object) {
		all = append(all, field{[]byte(key), object[key]})
	}
	return all
}

func (f fields) object() mappings.Object {
	object := make(mappings.Object, len(f))
	for _, f := range f {
		object[string(f.key)] = f.value
	}
	return object
}

// get gives the value of a key, nil where there is none.
func (f fields) get(key string) []byte {
	i, ok := f.find(key)
	if !ok {
		return nil
	}
	return f[i].value
}

func (f fields) find(key string) (int, bool) {
	return slices.BinarySearchFunc(f, key, func(f field, key string) int { return bytes.Compare(f.key, []byte(key)) })
}

// member gives a field of an object that has not been taken apart, nil where it has none.
func member(object []byte, name string) (value []byte) {
	all, _ := leadgridapi.Members(object)
	for key, text := range all {
		if string(key) == name {
			value = text // the last one counts
		}
	}
	return value
}
