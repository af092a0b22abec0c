package leadgridapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
)

var (
	signedAt = time.Unix(1713178230, 0)
	hookBody = []byte(`{"id": "evt_1", "type": "dossier.updated", "data": {"id": "d1"}}`)
)

func newVerifier(t testing.TB, secrets ...string) *leadgridapi.Verifier {
	v, err := leadgridapi.NewVerifier(secrets, leadgridapi.DefaultTolerance)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// An independent computation: printf '1713178230.{}' | openssl dgst -sha256 -hmac whsec_test
func TestSign(t *testing.T) {
	const want = "t=1713178230,v1=7b3d00c2ce17866430632e0b6f5c91dd9035037d99ad4a80768d7490142cbfa8"
	if got := leadgridapi.Sign("whsec_test", signedAt, []byte("{}")); got != want {
		t.Errorf("got %s", got)
	}
}

// The rows are those of the table of hostile webhooks that a header decides.
func TestVerify(t *testing.T) {
	right := leadgridapi.Sign("new", signedAt, hookBody)
	_, mac, _ := strings.Cut(right, "v1=")
	wrong := strings.Repeat("0", 64)
	at := func(t string) string { return "t=" + t + ",v1=" + mac }
	many := func(n int) string { return "t=1713178230" + strings.Repeat(",v1="+wrong, n-1) + ",v1=" + mac }
	const (
		none      = "ErrNoSignature"
		malformed = "ErrMalformedSignature"
		timing    = "ErrSignatureTime"
		mismatch  = "ErrWrongSignature"
	)
	sentinels := map[string]error{
		none: leadgridapi.ErrNoSignature, malformed: leadgridapi.ErrMalformedSignature,
		timing: leadgridapi.ErrSignatureTime, mismatch: leadgridapi.ErrWrongSignature,
	}
	tests := []struct {
		row     int
		name    string
		headers []string
		late    time.Duration
		want    string // the sentinel, empty for none
	}{
		{1, "no header", nil, 0, none},
		{1, "empty", []string{""}, 0, none},
		{1, "blank", []string{" "}, 0, malformed},
		{2, "only t", []string{"t=1713178230"}, 0, malformed},
		{2, "only v1", []string{"v1=" + mac}, 0, malformed},
		{3, "unknown scheme", []string{"t=1713178230,v0=" + mac}, 0, malformed},
		{3, "another case", []string{"t=1713178230,V1=" + mac}, 0, malformed},
		{4, "wrong and right", []string{"t=1713178230,v1=" + wrong + ",v1=" + mac}, 0, ""},
		{4, "right and wrong", []string{"t=1713178230,v1=" + mac + ",v1=" + wrong}, 0, ""},
		{5, "all wrong", []string{"t=1713178230,v1=" + wrong + ",v1=" + wrong}, 0, mismatch},
		{6, "unknown keys", []string{"v0=x,t=1713178230,foo=,v1=" + mac + ",v2=a=b"}, 0, ""},
		{7, "upper case", []string{"t=1713178230,v1=" + strings.ToUpper(mac)}, 0, ""},
		{8, "63 characters", []string{"t=1713178230,v1=" + mac[1:]}, 0, malformed},
		{8, "128 characters", []string{"t=1713178230,v1=" + mac + mac}, 0, malformed},
		{8, "not hex", []string{"t=1713178230,v1=" + mac[:63] + "g"}, 0, malformed},
		{8, "empty", []string{"t=1713178230,v1="}, 0, malformed},
		{9, "prefix", []string{"t=1713178230,v1=" + mac[:32]}, 0, malformed},
		{9, "prefix and zeros", []string{"t=1713178230,v1=" + mac[:32] + wrong[:32]}, 0, mismatch},
		{10, "blanks", []string{"t=1713178230, \tv1=" + mac + " "}, 0, ""},
		{10, "blank inside", []string{"t= 1713178230,v1=" + mac}, 0, malformed},
		{11, "t twice", []string{"t=1713178230," + right}, 0, malformed},
		{12, "header twice", []string{right, right}, 0, malformed},
		{13, "plus", []string{at("+1713178230")}, 0, malformed},
		{13, "minus", []string{at("-1")}, 0, malformed},
		{13, "leading zero", []string{at("01713178230")}, 0, malformed},
		{13, "fraction", []string{at("1713178230.5")}, 0, malformed},
		{13, "overflow", []string{at("99999999999999999999")}, 0, malformed},
		{13, "largest int64", []string{at("9223372036854775807")}, 0, malformed},
		{13, "hexadecimal", []string{at("0x661cff36")}, 0, malformed},
		{13, "underscore", []string{at("1_713_178_230")}, 0, malformed},
		{13, "empty", []string{at("")}, 0, malformed},
		{13, "zero", []string{at("0")}, 0, timing},
		{13, "far future", []string{at("999999999999")}, 0, timing},
		{14, "a thousand v1", []string{many(1000)}, 0, malformed},
		{14, "17 v1", []string{many(17)}, 0, malformed},
		{14, "16 v1", []string{many(16)}, 0, ""},
		{14, "long", []string{right + ",x=" + strings.Repeat("y", 4096)}, 0, malformed},
		{14, "part without =", []string{right + ",x"}, 0, malformed},
		{14, "trailing comma", []string{right + ","}, 0, malformed},
		{15, "299 s old", []string{right}, 299 * time.Second, ""},
		{15, "300 s old", []string{right}, 300 * time.Second, ""},
		{15, "301 s old", []string{right}, 301 * time.Second, timing},
		{16, "299 s ahead", []string{right}, -299 * time.Second, ""},
		{16, "301 s ahead", []string{right}, -301 * time.Second, timing},
		{19, "another time", []string{at("1713178231")}, 0, mismatch},
		{20, "old secret", []string{leadgridapi.Sign("old", signedAt, hookBody)}, 0, ""},
		{20, "new secret", []string{right}, 0, ""},
		{20, "another secret", []string{leadgridapi.Sign("other", signedAt, hookBody)}, 0, mismatch},
	}
	verifier := newVerifier(t, "old", "new")
	for _, test := range tests {
		t.Run(fmt.Sprintf("row %d, %s", test.row, test.name), func(t *testing.T) {
			err := verifier.Verify(test.headers, hookBody, signedAt.Add(test.late))
			if !errors.Is(err, sentinels[test.want]) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			for name, sentinel := range sentinels {
				if errors.Is(err, sentinel) != (name == test.want) {
					t.Errorf("got %v, which is %s", err, name)
				}
			}
		})
	}
	for i := range hookBody { // row 19
		changed := slices.Clone(hookBody)
		changed[i] ^= 1
		if err := verifier.Verify([]string{right}, changed, signedAt); !errors.Is(err, leadgridapi.ErrWrongSignature) {
			t.Errorf("byte %d changed: got %v", i, err)
		}
	}
	if err := verifier.Check(leadgridapi.Signature{}, nil); !errors.Is(err, leadgridapi.ErrWrongSignature) {
		t.Errorf("no signature at all: got %v", err)
	}
}

// Row 21.
func TestNewVerifierRefuses(t *testing.T) {
	for name, secrets := range map[string][]string{
		"none": nil, "empty": {""}, "one of them empty": {"a", ""}, "blank": {" \n"},
	} {
		if v, err := leadgridapi.NewVerifier(secrets, time.Minute); err == nil || v != nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, tolerance := range []time.Duration{0, -time.Second} {
		if _, err := leadgridapi.NewVerifier([]string{"a"}, tolerance); err == nil {
			t.Errorf("tolerance %v: no error", tolerance)
		}
	}
}

// The secret's own bytes are the key, and nobody prints them.
func TestSecrets(t *testing.T) {
	for _, secret := range []string{"whsec_MfKQ", " padded ", "é\x00\xff"} {
		v := newVerifier(t, secret)
		if err := v.Verify([]string{leadgridapi.Sign(secret, signedAt, hookBody)}, hookBody, signedAt); err != nil {
			t.Errorf("%q: %v", secret, err)
		}
		if err := v.Verify([]string{leadgridapi.Sign(strings.TrimSpace(secret)+"x", signedAt, hookBody)}, hookBody, signedAt); err == nil {
			t.Errorf("%q: another secret passed", secret)
		}
		if text := fmt.Sprintf("%v %+v %#v", v, *v, v); strings.Contains(text, secret) || strings.Contains(text, fmt.Sprint([]byte(secret))) {
			t.Errorf("%q: a printed verifier shows it", secret)
		}
	}
}

func FuzzParseSignature(f *testing.F) {
	f.Add(leadgridapi.Sign("new", signedAt, hookBody))
	f.Add("t=1,v1=" + strings.Repeat("A", 64) + ", v0=x")
	f.Add("t=,v1=,=,,")
	verifier := newVerifier(f, "a secret the fuzzer does not know")
	f.Fuzz(func(t *testing.T, header string) {
		s, err := leadgridapi.ParseSignature([]string{header})
		if err != nil {
			if !errors.Is(err, leadgridapi.ErrMalformedSignature) && !errors.Is(err, leadgridapi.ErrNoSignature) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		if !strings.Contains(header, fmt.Sprintf("t=%d", s.Time.Unix())) || !strings.Contains(header, "v1=") {
			t.Errorf("%q was read as %v", header, s.Time)
		}
		if verifier.Verify([]string{header}, hookBody, s.Time) == nil {
			t.Errorf("%q passed", header)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	body := eventOfSize(600)
	for _, secrets := range [][]string{{"new"}, {"old", "new"}} {
		b.Run(fmt.Sprintf("secrets=%d", len(secrets)), func(b *testing.B) {
			verifier := newVerifier(b, secrets...)
			headers := []string{leadgridapi.Sign("new", signedAt, body)}
			b.ReportAllocs()
			for b.Loop() {
				if err := verifier.Verify(headers, body, signedAt); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
