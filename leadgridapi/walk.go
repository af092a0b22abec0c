package leadgridapi

import (
	"bytes"
	"encoding/json"
	"iter"
	"unicode/utf8"
)

// A cursor walks over JSON that is known to be valid, without copying it;
// encoding/json would check it again at every level. On invalid JSON it misses
// something, but it always terminates.
type cursor struct {
	data []byte
	at   int
}

// peek returns the next byte, 0 at the end: no JSON holds that byte.
func (c *cursor) peek() byte {
	if c.at < len(c.data) {
		return c.data[c.at]
	}
	return 0
}

// take reads b if it is next, and reports whether it was.
func (c *cursor) take(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.at++
	return true
}

func (c *cursor) space() {
	for c.at < len(c.data) {
		switch c.data[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

// skipString reads a string and returns it, quotes included.
func (c *cursor) skipString() []byte {
	start := c.at
	c.at++
	if n := bytes.IndexByte(c.data[c.at:], '"'); n >= 0 && bytes.IndexByte(c.data[c.at:c.at+n], '\\') < 0 {
		c.at += n + 1
		return c.data[start:c.at]
	}
	for c.at < len(c.data) {
		c.at += plain(c.data[c.at:])
		switch c.peek() {
		case '"':
			c.at++
			return c.data[start:c.at]
		case '\\':
			c.at++ // and what it escapes
		}
		c.at++
	}
	c.at = len(c.data)
	return nil
}

// plain returns how many bytes at the beginning of s stand for themselves in a
// JSON string.
func plain(s []byte) int {
	for i, b := range s {
		if special[b] {
			return i
		}
	}
	return len(s)
}

// special are the bytes that do not stand for themselves in a JSON string.
var special = func() (special [256]bool) {
	for b := range ' ' {
		special[b] = true
	}
	special['"'], special['\\'] = true, true
	return special
}()

// Members iterates over the keys and values of a JSON object, such as Raw, in
// their order and without copying them. In invalid JSON it may miss some. ok is
// false if the value is no object.
func Members(object []byte) (fields iter.Seq2[[]byte, []byte], ok bool) {
	c := cursor{data: object}
	c.space()
	return members(object), c.peek() == '{'
}

// members is Members for callers who do not care whether it is an object: other
// values have no members.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c := cursor{data: object}
		c.space()
		if !c.take('{') {
			return
		}
		for c.space(); c.peek() == '"'; c.space() {
			key := c.skipString()
			c.space()
			c.take(':')
			if value := c.skip(); !yield(unquote(key), value) {
				return
			}
			c.space()
			c.take(',')
		}
	}
}

// Elements iterates over the values of a JSON array, as [Members] does over those
// of an object. Other values have no elements.
func Elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c := cursor{data: array}
		c.space()
		if !c.take('[') {
			return
		}
		for {
			value := c.skip()
			if len(value) == 0 || !yield(value) {
				return
			}
			c.space()
			c.take(',')
		}
	}
}

// skip reads a value and returns it, without blanks around it.
func (c *cursor) skip() []byte {
	c.space()
	start := c.at
	for depth := 0; c.at < len(c.data); {
		switch c.data[c.at] {
		case '"':
			c.skipString()
			if depth == 0 {
				return c.data[start:c.at]
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 { // of the container around a literal
				return c.data[start:c.at]
			}
			if depth--; depth == 0 {
				c.at++
				return c.data[start:c.at]
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 { // the end of a literal
				return c.data[start:c.at]
			}
		}
		c.at++
	}
	return c.data[start:c.at]
}

// unquote returns the text of a JSON string, without copying it if possible, and
// nil for any other value.
func unquote(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return nil
	}
	if inside := value[1 : len(value)-1]; bytes.IndexByte(inside, '\\') < 0 && utf8.Valid(inside) {
		return inside
	}
	var s string
	_ = json.Unmarshal(value, &s)
	return []byte(s)
}

// idText returns a string or a number as text, and nothing for any other value.
func idText(value []byte) string {
	if isNumber(value) {
		return string(value)
	}
	return string(unquote(value))
}

func isNumber(value []byte) bool {
	return len(value) > 0 && (value[0] == '-' || '0' <= value[0] && value[0] <= '9')
}
