package leadgridapi

import (
	"bytes"
	"encoding/json"
	"iter"
	"unicode/utf8"
)

// The functions here walk over JSON that is known to be valid, without copying
// it: encoding/json would check it again at every level. On other bytes they find
// less than there is, but they end.

// members iterates over the keys and values of an object, in their order. Of any
// other value, there are none.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c := checker{data: object}
		c.space()
		if !c.take('{') {
			return
		}
		for c.space(); c.peek() == '"'; c.space() {
			key, _ := c.string()
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

// elements iterates over the values of an array. Of any other value, there are
// none.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c := checker{data: array}
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
func (c *checker) skip() []byte {
	c.space()
	start := c.at
	for depth := 0; c.at < len(c.data); {
		switch c.data[c.at] {
		case '"':
			_, _ = c.string()
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

// unquote returns the text of a JSON string, without copying it where it can, and
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
