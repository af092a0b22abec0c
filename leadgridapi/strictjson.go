package leadgridapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// The limits of strict JSON. Postgres keeps numbers of up to 131072 digits before
// the point and 16383 behind it.
const (
	maxDepth  = 64
	maxDigits = 1000
)

// maxDepthAnywhere is how deep encoding/json goes.
const maxDepthAnywhere = 10000

// Why JSON is refused. None of these quotes it, as it may hold personal data.
var (
	errNotUTF8   = errors.New("not UTF-8")
	errBOM       = errors.New("begins with a byte-order mark")
	errNotObject = errors.New("not a JSON object")
	errSyntax    = errors.New("not valid JSON")
	errTrailing  = errors.New("something follows the object")
	errTooDeep   = errors.New("nested too deep")
	errTwice     = errors.New("a key comes twice")
	errNUL       = errors.New("U+0000 in a string")
	errSurrogate = errors.New("a lone surrogate in a string")
	errAbsurd    = errors.New("an absurdly long number")
)

// checkJSON returns nil if data is one JSON object that every reader understands
// in the same way: see [ParseEvent]. It takes one pass, in linear time, and
// allocates only for keys.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errNotUTF8
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return errBOM
	}
	var room [32][]byte // on the stack: enough for the keys of an event as we know them
	c := checker{cursor: cursor{data: data}, strict: true, keys: room[:0]}
	c.space()
	if c.peek() != '{' {
		return errNotObject
	}
	if err := c.value(0); err != nil {
		return err
	}
	return c.end()
}

// A checker walks over bytes that may or may not be JSON. If it is not strict,
// it accepts what encoding/json does, in a third of the time.
type checker struct {
	cursor
	strict bool
	keys   [][]byte // if strict: folded, of all open objects, the innermost object's last
}

// value reads a value inside depth containers.
func (c *checker) value(depth int) error {
	c.space()
	switch b := c.peek(); {
	case b == '{':
		return c.object(depth + 1)
	case b == '[':
		return c.array(depth+1, nil)
	case b == '"':
		_, err := c.string()
		return err
	case isNumber([]byte{b}):
		return c.number()
	}
	for _, literal := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(c.data[c.at:], []byte(literal)) {
			c.at += len(literal)
			return nil
		}
	}
	return errSyntax
}

func (c *checker) object(depth int) error {
	if c.tooDeep(depth) {
		return errTooDeep
	}
	c.at++
	c.space()
	if c.take('}') {
		return nil
	}
	for outer := len(c.keys); ; {
		key, err := c.key()
		if err != nil {
			return err
		}
		if c.strict {
			c.keys = append(c.keys, fold(key))
		}
		if err := c.value(depth); err != nil {
			return err
		}
		c.space()
		if c.take(',') {
			continue
		}
		if !c.take('}') {
			return errSyntax
		}
		if anyTwice(c.keys[outer:]) {
			return errTwice
		}
		c.keys = c.keys[:outer]
		return nil
	}
}

// key reads a key of an object and the colon behind it, and returns the key,
// quotes included.
func (c *checker) key() ([]byte, error) {
	c.space()
	key, err := c.string()
	c.space()
	if err == nil && !c.take(':') {
		err = errSyntax
	}
	return key, err
}

// array reads an array, and appends its elements to *elements if that is not nil.
func (c *checker) array(depth int, elements *[]json.RawMessage) error {
	if c.tooDeep(depth) {
		return errTooDeep
	}
	c.at++
	c.space()
	if c.take(']') {
		return nil
	}
	for {
		c.space()
		start := c.at
		if err := c.value(depth); err != nil {
			return err
		}
		if elements != nil {
			*elements = append(*elements, c.data[start:c.at:c.at])
		}
		c.space()
		if c.take(']') {
			return nil
		}
		if !c.take(',') {
			return errSyntax
		}
	}
}

// tooDeep reports whether an object or array may not be that deep.
func (c *checker) tooDeep(depth int) bool {
	return depth > maxDepthAnywhere || c.strict && depth > maxDepth
}

// string reads a string and returns it, quotes included.
func (c *checker) string() ([]byte, error) {
	start := c.at
	if !c.take('"') {
		return nil, errSyntax
	}
	for {
		c.at += plain(c.data[c.at:])
		switch c.peek() {
		case '"':
			c.at++
			return c.data[start:c.at], nil
		case '\\':
			if err := c.escape(); err != nil {
				return nil, err
			}
		default: // a control character, or the end
			return nil, errSyntax
		}
	}
}

func (c *checker) escape() error {
	c.at++
	switch c.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.at++
		return nil
	case 'u':
	default:
		return errSyntax
	}
	r, err := c.unicodeEscape()
	switch {
	case err != nil || !c.strict:
		return err
	case r == 0:
		return errNUL
	case 0xDC00 <= r && r <= 0xDFFF:
		return errSurrogate
	case 0xD800 <= r && r <= 0xDBFF:
		if !c.take('\\') || c.peek() != 'u' {
			return errSurrogate
		}
		low, err := c.unicodeEscape()
		if err != nil {
			return err
		}
		if low < 0xDC00 || low > 0xDFFF {
			return errSurrogate
		}
	}
	return nil
}

// unicodeEscape reads what follows the backslash of \uXXXX.
func (c *checker) unicodeEscape() (rune, error) {
	if len(c.data)-c.at < 5 {
		return 0, errSyntax
	}
	n, err := strconv.ParseUint(string(c.data[c.at+1:c.at+5]), 16, 16)
	if err != nil {
		return 0, errSyntax
	}
	c.at += 5
	return rune(n), nil
}

// number reads a number. If strict, it must not have more than maxDigits digits,
// written out without its exponent.
func (c *checker) number() error {
	start := c.at
	c.take('-')
	if !c.take('0') && c.digits() == 0 {
		return errSyntax
	}
	if c.take('.') && c.digits() == 0 {
		return errSyntax
	}
	length, exponent := c.at-start, 0
	if c.take('e') || c.take('E') {
		if !c.take('+') {
			c.take('-')
		}
		from := c.at
		if c.digits() == 0 {
			return errSyntax
		}
		var err error
		if exponent, err = strconv.Atoi(string(c.data[from:c.at])); c.strict && (err != nil || exponent > maxDigits) {
			return errAbsurd
		}
	}
	if c.strict && length+exponent > maxDigits {
		return errAbsurd
	}
	return nil
}

// digits reads digits and says how many.
func (c *checker) digits() int {
	start := c.at
	for '0' <= c.peek() && c.peek() <= '9' {
		c.at++
	}
	return c.at - start
}

// fold returns the text of a quoted key, the same for all keys that differ only
// in case, as encoding/json understands case.
func fold(quoted []byte) []byte {
	key := unquote(quoted)
	for _, b := range key {
		if 'A' <= b && b <= 'Z' || b >= utf8.RuneSelf {
			return bytes.Map(foldRune, key)
		}
	}
	return key
}

func foldRune(r rune) rune {
	least := r // of the runes that are r in some case
	if r >= utf8.RuneSelf {
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
	}
	if 'A' <= least && least <= 'Z' {
		return least + 'a' - 'A'
	}
	return least
}

// anyTwice reports whether two of the keys are equal. Most objects have too few
// keys for a map to be worth it.
func anyTwice(keys [][]byte) bool {
	if len(keys) > 16 {
		seen := make(map[string]bool, len(keys))
		for _, key := range keys {
			if seen[string(key)] {
				return true
			}
			seen[string(key)] = true
		}
		return false
	}
	for i, key := range keys {
		for _, other := range keys[:i] {
			if bytes.Equal(key, other) {
				return true
			}
		}
	}
	return false
}
