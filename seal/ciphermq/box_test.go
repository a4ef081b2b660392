package ciphermq_test

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// The published vectors of CipherMQ's generations G3 to G6, and the lines that its own
// senders would have written with them.
const (
	boxA         = "WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpntgjFbn3V4LEJmTityWay7/A5rdT8UYCz8hnrGhYYOLGwR3xWq/QnGdnv6P+zZ0n0U="
	boxB         = "WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpnurrfP+nO9BKCAPzJoY53kGWFS4uqNzgUtGQvfKd5XGyiyr4+w2u57dkoOiRrSksm0="
	boxReceiver  = "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw="
	boxPlaintext = "sender_1-CipherMQ Sample message with ID: 1a2b3c4d"

	lineG3 = `{"message_id": "44444444-4444-4444-8444-444444444444", "receiver_client_id": "CipherMQ-Receiver", "enc_session_key": "` + boxA + `", "nonce": "YWJjZGVmZ2hpamts", "tag": "pUaBI+cvLcvDCf/kxQcrQA==", "ciphertext": "JxFH7kIVqKyFgCB+7skfOHoCzJjrRFcHySlfAnxhOxNvhZscQ+V3qPhZUvPixcGMFpk="}`
	lineG4 = `{"message_id": "55555555-5555-4555-8555-555555555555", "receiver_client_id": "receiver_1", "enc_session_key": "` + boxA + `", "nonce": "YWJjZGVmZ2hpamts", "tag": "3dFgbVhhkR6DFjm2qB2q0A==", "ciphertext": "rDWtcZ+vrmQ76EX8qvHiYAlppQF4E4JaAUIByBEiUBKsK8crVnbVoYJ1Om6InWkm9Io=", "sent_time": "2025-09-12T10:00:00.000000Z", "routing_key": "receiver_1_key"}`
	lineG5 = `{"message_id": "sender_1-1a2b3c4d-receiver_1", "ciphertext": "rDWtcZ+vrmQ76EX8qvHiYAlppQF4E4JaAUIByBEiUBKsK8crVnbVoYJ1Om6InWkm9Ird0WBtWGGRHoMWObaoHarQ", "receiver_client_id": "receiver_1", "enc_session_key": "` + boxA + `", "nonce": "YWJjZGVmZ2hpamts", "sent_time": "2025-10-18T07:30:00.000000+00:00"}`
	lineG6 = `{"ciphertext":"rDWtcZ+vrmQ76EX8qvHiYAlppQF4E4JaAUIByBEiUBKsK8crVnbVoYJ1Om6InWkm9Ird0WBtWGGRHoMWObaoHarQ","enc_session_key":"` + boxB + `","message_id":"sender_1-5e6f7a8b-receiver_1","nonce":"YWJjZGVmZ2hpamts","receiver_client_id":"receiver_1","sent_time":"2026-06-08T07:03:00.123456789+00:00"}`
)

var boxVectors = []struct {
	suite            seal.Suite
	line             string
	id, to, routeKey string
	sent             string
}{
	{ciphermq.G3, lineG3, "44444444-4444-4444-8444-444444444444", "CipherMQ-Receiver", "CipherMQ_key", "2025-07-21T10:00:00Z"},
	{ciphermq.G4, lineG4, "55555555-5555-4555-8555-555555555555", "receiver_1", "receiver_1_key", "2025-09-12T10:00:00Z"},
	{ciphermq.G5, lineG5, "sender_1-1a2b3c4d-receiver_1", "receiver_1", "receiver_1_key", "2025-10-18T07:30:00Z"},
	{ciphermq.G6, lineG6, "sender_1-5e6f7a8b-receiver_1", "receiver_1", "receiver_1_key", "2026-06-08T07:03:00.123456789Z"},
}

var (
	boxEphemeral  = sequence(0x21, 32)
	boxContentKey = sequence(0x41, 32)
	boxNonce      = sequence(0x61, 12)
)

func boxKey(tb testing.TB) seal.LegacyPrivateKey {
	tb.Helper()
	key, err := ciphermq.Suites{}.PrivateKey(ciphermq.G5, sequence(1, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// keyOf is a key of a suite as an Opener takes it.
func keyOf(tb testing.TB, suite seal.Suite) *seal.PrivateKey {
	tb.Helper()
	key, err := seal.NewPrivateKey(suite, sequence(1, 32), ciphermq.Suites{})
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func opener(tb testing.TB, name string, suites []seal.Suite, keys ...*seal.PrivateKey) *seal.Opener {
	tb.Helper()
	o, err := seal.NewOpener(seal.OpenerConfig{Name: name, Keys: ringOf(tb, keys...), Suites: suites, Legacy: []seal.Legacy{ciphermq.Suites{}}})
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func TestPublishedSamplesOfG3ToG6(t *testing.T) {
	for _, v := range boxVectors {
		id, text, err := open(boxKey(t), []byte(v.line))
		if err != nil || id != v.id || string(text) != boxPlaintext {
			t.Errorf("%s opened: %q %q %v", v.suite, id, text, err)
		}
		sent, err := time.Parse(time.RFC3339, v.sent)
		if err != nil {
			t.Fatal(err)
		}
		random := bytes.NewReader(bytes.Join([][]byte{boxContentKey, boxEphemeral, boxNonce}, nil))
		line, err := boxKey(t).Public().Seal(v.suite, v.to, seal.Content{ID: v.id, Exchange: "x", RoutingKey: v.routeKey, Body: []byte(boxPlaintext)}, sent, random)
		if err != nil || string(line) != v.line {
			t.Errorf("%s, %v:\n%s\nwant\n%s", v.suite, err, line, v.line)
		}
		for _, suite := range []seal.Suite{ciphermq.G3, ciphermq.G4, ciphermq.G5, ciphermq.G6} {
			o := opener(t, v.to, []seal.Suite{suite}, keyOf(t, suite))
			if m, err := o.Open([]byte(v.line), seal.Expect{ID: v.id}); err != nil || string(m.Text) != boxPlaintext || m.Proven() || m.Suite != suite {
				t.Errorf("%s opened with a key of %s: %v %v", v.suite, suite, m, err)
			}
		}
	}
}

func ringOf(tb testing.TB, keys ...*seal.PrivateKey) *seal.Keyring {
	tb.Helper()
	r, err := seal.NewKeyring(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestSealedBoxesOfBothTypes(t *testing.T) {
	key, err := ecdh.X25519().NewPrivateKey(sequence(1, 32))
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()); got != boxReceiver {
		t.Fatalf("public key %s", got)
	}
	for name, tc := range map[string]struct {
		seal func([]byte, *ecdh.PublicKey, *bytes.Reader) ([]byte, error)
		open func([]byte, *ecdh.PrivateKey) ([]byte, error)
		want string
	}{
		"A": {func(p []byte, k *ecdh.PublicKey, r *bytes.Reader) ([]byte, error) { return ciphermq.SealBoxA(p, k, r) }, ciphermq.OpenBoxA, boxA},
		"B": {func(p []byte, k *ecdh.PublicKey, r *bytes.Reader) ([]byte, error) { return ciphermq.SealBoxB(p, k, r) }, ciphermq.OpenBoxB, boxB},
	} {
		got, err := tc.seal(boxContentKey, key.PublicKey(), bytes.NewReader(boxEphemeral))
		if err != nil || base64.StdEncoding.EncodeToString(got) != tc.want {
			t.Errorf("box %s: %x %v", name, got, err)
		}
		want, err := base64.StdEncoding.DecodeString(tc.want)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := tc.open(want, key); err != nil || !bytes.Equal(p, boxContentKey) {
			t.Errorf("box %s opens to %x, %v", name, p, err)
		}
		for i := range want {
			changed := bytes.Clone(want)
			changed[i] ^= 0x80
			if p, err := tc.open(changed, key); err == nil {
				t.Errorf("box %s with byte %d changed opens to %x", name, i, p)
			}
			if _, err := tc.open(want[:i], key); err == nil {
				t.Errorf("box %s cut at %d opens", name, i)
			}
		}
	}
	a, _ := base64.StdEncoding.DecodeString(boxA)
	b, _ := base64.StdEncoding.DecodeString(boxB)
	if _, err := ciphermq.OpenBoxB(a, key); err == nil {
		t.Error("a box of type A opens as type B")
	}
	if _, err := ciphermq.OpenBoxA(b, key); err == nil {
		t.Error("a box of type B opens as type A")
	}
}

// A box whose ephemeral key is a point of low order could be made by anybody without the
// receiver's key. libsodium refuses it.
func TestSealedBoxOfLowOrder(t *testing.T) {
	key, err := ecdh.X25519().NewPrivateKey(sequence(1, 32))
	if err != nil {
		t.Fatal(err)
	}
	// With the ephemeral key zero, the shared point is zero for every receiver.
	var zero, keyA [32]byte
	var nonceA, nonceB [24]byte
	box.Precompute(&keyA, &zero, (*[32]byte)(key.Bytes()))
	both := append(zero[:], key.PublicKey().Bytes()...)
	h, err := blake2b.New(24, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(both)
	h.Sum(nonceA[:0])
	sum := blake2b.Sum512(both)
	copy(nonceB[:], sum[:])
	if p, err := ciphermq.OpenBoxA(secretbox.Seal(make([]byte, 32), boxContentKey, &nonceA, &keyA), key); err == nil {
		t.Errorf("type A opens to %x", p)
	}
	if p, err := ciphermq.OpenBoxB(secretbox.Seal(make([]byte, 32), boxContentKey, &nonceB, &zero), key); err == nil {
		t.Errorf("type B opens to %x", p)
	}
	if _, err := (ciphermq.Suites{}).PublicKey(ciphermq.G5, make([]byte, 32)); err == nil {
		t.Error("a public key of low order is taken")
	}
}

func TestBoxEnvelopesChanged(t *testing.T) {
	key := boxKey(t)
	for _, v := range boxVectors {
		env, err := ciphermq.Parse([]byte(v.line))
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.line {
			changed := []byte(v.line)
			changed[i] ^= 1
			_, text, err := open(key, changed)
			if err == nil && string(text) != boxPlaintext {
				t.Errorf("%s, byte %d: opened to %q", v.suite, i, text)
			}
			if err != nil && (text != nil || strings.Contains(err.Error(), "Sample")) {
				t.Errorf("%s, byte %d: %q beside %v", v.suite, i, text, err)
			}
		}
		for name, tc := range map[string]struct {
			change func(e *ciphermq.Envelope)
			want   error
		}{
			"no key":            {func(e *ciphermq.Envelope) { e.EncSessionKey = nil }, seal.ErrWrongKey},
			"a short key":       {func(e *ciphermq.Envelope) { e.EncSessionKey = e.EncSessionKey[1:] }, seal.ErrWrongKey},
			"another key":       {func(e *ciphermq.Envelope) { e.EncSessionKey = bytes.Repeat([]byte{3}, 80) }, seal.ErrWrongKey},
			"no nonce":          {func(e *ciphermq.Envelope) { e.Nonce = nil }, seal.ErrMalformed},
			"another nonce":     {func(e *ciphermq.Envelope) { e.Nonce = sequence(0, 12) }, seal.ErrChanged},
			"no ciphertext":     {func(e *ciphermq.Envelope) { e.Ciphertext = nil }, seal.ErrMalformed},
			"a cut ciphertext":  {func(e *ciphermq.Envelope) { e.Ciphertext = e.Ciphertext[1:] }, seal.ErrChanged},
			"a tag of 12 bytes": {func(e *ciphermq.Envelope) { e.Tag = make([]byte, 12) }, seal.ErrMalformed},
			"a tag too many":    {func(e *ciphermq.Envelope) { e.Tag = make([]byte, 16) }, seal.ErrChanged},
		} {
			e := *env
			tc.change(&e)
			if _, text, err := open(key, e.JSON()); !errors.Is(err, tc.want) || text != nil {
				t.Errorf("%s, %s: %q %v", v.suite, name, text, err)
			}
		}
	}
}

func TestOpenersWithCipherMQ(t *testing.T) {
	suites := []seal.Suite{ciphermq.RSA, ciphermq.G3, ciphermq.G4, ciphermq.G5, ciphermq.G6}
	keyPEM, err := os.ReadFile("testdata/g2-1048.pem")
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := seal.ParsePrivateKey(keyPEM, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	_, g2 := vector(t)
	other, err := seal.Generate(ciphermq.G4, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	o := opener(t, "receiver_1", suites, rsaKey, other, keyOf(t, ciphermq.G5))
	for name, tc := range map[string]struct {
		line string
		want seal.Expect
		err  error
	}{
		"G2":               {string(g2), seal.Expect{ID: vectorID}, nil},
		"G4":               {lineG4, seal.Expect{AnyID: true}, nil},
		"G6":               {lineG6, seal.Expect{ID: "sender_1-5e6f7a8b-receiver_1"}, nil},
		"another receiver": {lineG3, seal.Expect{AnyID: true}, seal.ErrReceiver},
		"another id":       {lineG4, seal.Expect{ID: vectorID}, seal.ErrID},
		"a route":          {lineG4, seal.Expect{AnyID: true, RoutingKey: "receiver_1_key"}, seal.ErrRoute},
		"changed":          {strings.Replace(lineG6, "YWJj", "YWJk", 1), seal.Expect{AnyID: true}, seal.ErrChanged},
		"for another key":  {strings.Replace(lineG6, "WGmv", "WGmw", 1), seal.Expect{AnyID: true}, seal.ErrWrongKey},
		"no JSON":          {"hello", seal.Expect{AnyID: true}, seal.ErrMalformed},
	} {
		m, err := o.Open([]byte(tc.line), tc.want)
		if !errors.Is(err, tc.err) || (err == nil) == (m == nil) {
			t.Errorf("%s: %v %v", name, m, err)
		}
	}
	sealsFor := func(key *seal.PublicKey, name, text string) error {
		s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: name, Key: key}}})
		if err != nil {
			return err
		}
		c := seal.Content{ID: seal.NewID(), Exchange: "x", RoutingKey: "k", Body: []byte(text)}
		body, err := s.Seal(c)
		if err != nil {
			return err
		}
		m, err := o.Open(body, seal.Expect{ID: c.ID})
		if err == nil && string(m.Text) != text {
			t.Errorf("%s: %q", key.Suite(), m.Text)
		}
		return err
	}
	for _, suite := range suites[1:] {
		key, err := keyOf(t, ciphermq.G5).Public().WithSuite(suite)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"x", "grüße", strings.Repeat("long ", 20_000)} {
			if err := sealsFor(key, "receiver_1", text); err != nil {
				t.Errorf("%s: %v", suite, err)
			}
		}
		if sealsFor(key, "receiver_1", "") == nil || sealsFor(key, "Jane Doe", "x") == nil {
			t.Errorf("%s seals an empty text, or for a name with a space", suite)
		}
	}
	if err := sealsFor(rsaKey.Public(), "receiver_1", "text"); err != nil {
		t.Error(err)
	}
	if _, err := keyOf(t, ciphermq.G5).Public().WithSuite(ciphermq.RSA); err == nil {
		t.Error("a key was moved to a suite that is not its own")
	}
}

// One key of G3 to G6 is the same key for all of them.
func TestKeysOfG3ToG6AreTheSame(t *testing.T) {
	raw, err := base64.StdEncoding.DecodeString(boxReceiver)
	if err != nil {
		t.Fatal(err)
	}
	public, err := seal.NewPublicKey(ciphermq.G6, raw, ciphermq.Suites{})
	if err != nil || public.Fingerprint() != keyOf(t, ciphermq.G3).Public().Fingerprint() || public.Suite() != ciphermq.G6 {
		t.Errorf("%v %v", public, err)
	}
}

func TestPrivateKeysDoNotPrint(t *testing.T) {
	rsaKey, _ := vector(t)
	for _, key := range []seal.LegacyPrivateKey{rsaKey, boxKey(t)} {
		for _, form := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			if got := fmt.Sprintf(form, key); got != "[redacted]" {
				t.Errorf("%s prints %q", form, got)
			}
		}
	}
}
