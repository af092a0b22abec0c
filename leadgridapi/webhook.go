package leadgridapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// SignatureHeader carries the signature of a webhook.
	SignatureHeader = "X-LeadGrid-Signature"

	// DefaultTolerance is how far a signature's time may be from now.
	DefaultTolerance = 5 * time.Minute

	maxSignatureHeader = 4 << 10
	maxSignatures      = 16
)

// Why a webhook is not to be trusted.
var (
	ErrNoSignature        = errors.New("leadgrid: webhook without a signature")
	ErrMalformedSignature = errors.New("leadgrid: malformed webhook signature")
	ErrSignatureTime      = errors.New("leadgrid: webhook signed too long ago or in the future")
	ErrWrongSignature     = errors.New("leadgrid: wrong webhook signature")
)

// A Signature is the parsed header of a webhook. Make one with [ParseSignature].
type Signature struct {
	Time time.Time // when it was made, as it claims, to the second

	timestamp string // as signed
	v1        [][sha256.Size]byte
}

// ParseSignature reads the values of [SignatureHeader]. There must be exactly one,
// "t=<seconds>,v1=<hex>". It may hold several v1, while a secret rotates, other
// schemes' keys, which are ignored, and blanks around commas. Anything else is
// [ErrMalformedSignature], and a missing value [ErrNoSignature].
func ParseSignature(headers []string) (Signature, error) {
	if len(headers) == 0 || len(headers) == 1 && headers[0] == "" {
		return Signature{}, ErrNoSignature
	}
	if len(headers) > 1 {
		return Signature{}, malformed("the header comes more than once")
	}
	if len(headers[0]) > maxSignatureHeader {
		return Signature{}, malformed("the header is too long")
	}
	var s Signature
	for part := range strings.SplitSeq(headers[0], ",") {
		key, value, found := strings.Cut(strings.Trim(part, " \t"), "=")
		if !found {
			return Signature{}, malformed("a part without =")
		}
		var err error
		switch key {
		case "t":
			err = s.setTime(value)
		case "v1":
			err = s.addV1(value)
		}
		if err != nil {
			return Signature{}, err
		}
	}
	if s.timestamp == "" {
		return Signature{}, malformed("no t")
	}
	if len(s.v1) == 0 {
		return Signature{}, malformed("no v1")
	}
	return s, nil
}

// setTime only takes plain decimal seconds: no sign and no leading zero, which
// strconv would accept, and no more digits than the next 30,000 years need.
func (s *Signature) setTime(value string) error {
	if s.timestamp != "" {
		return malformed("t comes more than once")
	}
	seconds, err := strconv.ParseUint(value, 10, 63)
	if err != nil || len(value) > 12 || strconv.FormatUint(seconds, 10) != value {
		return malformed("t is not a time")
	}
	s.Time, s.timestamp = time.Unix(int64(seconds), 0), value
	return nil
}

func (s *Signature) addV1(value string) error {
	var mac [sha256.Size]byte
	if len(value) != hex.EncodedLen(len(mac)) {
		return malformed("v1 is not of 64 characters")
	}
	if len(s.v1) == maxSignatures {
		return malformed("too many v1")
	}
	if _, err := hex.Decode(mac[:], []byte(value)); err != nil {
		return malformed("v1 is not hexadecimal")
	}
	s.v1 = append(s.v1, mac)
	return nil
}

func malformed(reason string) error { return fmt.Errorf("%w: %s", ErrMalformedSignature, reason) }

// A Verifier recognizes LeadGrid's webhooks. It is safe for concurrent use. Make
// one with [NewVerifier].
type Verifier struct {
	macs      []*sync.Pool // of hash.Hash, one pool for each secret; printing a Verifier prints no secret
	tolerance time.Duration
}

// NewVerifier returns a verifier that trusts signatures made with any of the
// secrets (two, while they rotate) no further than tolerance from now; LeadGrid
// advises [DefaultTolerance]. It fails without a secret, or if one is blank. A
// secret's text is the HMAC key, with nothing stripped or decoded.
func NewVerifier(secrets []string, tolerance time.Duration) (*Verifier, error) {
	if len(secrets) == 0 {
		return nil, errors.New("leadgrid: no webhook secret")
	}
	if tolerance <= 0 {
		return nil, errors.New("leadgrid: the webhook tolerance must be positive")
	}
	v := &Verifier{tolerance: tolerance}
	for _, secret := range secrets {
		if strings.TrimSpace(secret) == "" {
			return nil, errors.New("leadgrid: a webhook secret is blank")
		}
		v.macs = append(v.macs, &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }})
	}
	return v, nil
}

// Verify returns nil if body was signed with one of the secrets, at a time near
// now. headers are all values of [SignatureHeader]. A server that does not want to
// read the body of a request that cannot be authentic calls [ParseSignature],
// [Verifier.CheckAge] and [Verifier.Check] instead.
func (v *Verifier) Verify(headers []string, body []byte, now time.Time) error {
	s, err := ParseSignature(headers)
	if err != nil {
		return err
	}
	if err := v.CheckAge(s, now); err != nil {
		return err
	}
	return v.Check(s, body)
}

// CheckAge returns [ErrSignatureTime] unless s was made near now.
func (v *Verifier) CheckAge(s Signature, now time.Time) error {
	if age := now.Sub(s.Time); age > v.tolerance || age < -v.tolerance {
		return ErrSignatureTime
	}
	return nil
}

// Check returns [ErrWrongSignature] unless s is a signature of body with one of
// the secrets. It takes the same time whichever of them matches.
func (v *Verifier) Check(s Signature, body []byte) error {
	matches := false
	var room [sha256.Size]byte
	for _, pool := range v.macs {
		mac := pool.Get().(hash.Hash)
		want := sum(mac, room[:0], s.timestamp, body)
		pool.Put(mac)
		for i := range s.v1 {
			matches = hmac.Equal(want, s.v1[i][:]) || matches
		}
	}
	if !matches {
		return ErrWrongSignature
	}
	return nil
}

// Sign returns the value of [SignatureHeader] that LeadGrid would send with body at
// t. It is meant for tests and stand-ins.
func Sign(secret string, t time.Time, body []byte) string {
	timestamp := strconv.FormatInt(t.Unix(), 10)
	mac := sum(hmac.New(sha256.New, []byte(secret)), nil, timestamp, body)
	return "t=" + timestamp + ",v1=" + hex.EncodeToString(mac)
}

// sum appends what mac makes of a signed text to room.
func sum(mac hash.Hash, room []byte, timestamp string, body []byte) []byte {
	mac.Reset()
	_, _ = io.WriteString(mac, timestamp) // a hash takes everything
	_, _ = io.WriteString(mac, ".")
	mac.Write(body)
	return mac.Sum(room)
}
