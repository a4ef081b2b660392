package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/sealmq/sealmq/seal"
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
	{seal.CipherMQG3, lineG3, "44444444-4444-4444-8444-444444444444", "CipherMQ-Receiver", "CipherMQ_key", "2025-07-21T10:00:00Z"},
	{seal.CipherMQG4, lineG4, "55555555-5555-4555-8555-555555555555", "receiver_1", "receiver_1_key", "2025-09-12T10:00:00Z"},
	{seal.CipherMQG5, lineG5, "sender_1-1a2b3c4d-receiver_1", "receiver_1", "receiver_1_key", "2025-10-18T07:30:00Z"},
	{seal.CipherMQG6, lineG6, "sender_1-5e6f7a8b-receiver_1", "receiver_1", "receiver_1_key", "2026-06-08T07:03:00.123456789Z"},
}

var (
	boxEphemeral  = sequence(0x21, 32)
	boxContentKey = sequence(0x41, 32)
	boxNonce      = sequence(0x61, 12)
)

func boxKey(tb testing.TB, suite seal.Suite) *seal.PrivateKey {
	tb.Helper()
	key, err := seal.NewPrivateKey(suite, sequence(1, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func TestPublishedSamplesOfG3ToG6(t *testing.T) {
	for _, v := range boxVectors {
		for _, suite := range []seal.Suite{seal.CipherMQG3, seal.CipherMQG4, seal.CipherMQG5, seal.CipherMQG6} {
			id, text, err := boxKey(t, suite).Open([]byte(v.line))
			if err != nil || id != v.id || string(text) != boxPlaintext {
				t.Errorf("%s opened with a key of %s: %q %q %v", v.suite, suite, id, text, err)
			}
		}
		sent, err := time.Parse(time.RFC3339, v.sent)
		if err != nil {
			t.Fatal(err)
		}
		s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: v.to, Key: boxKey(t, v.suite).Public()}}, Now: func() time.Time { return sent }})
		if err != nil {
			t.Fatal(err)
		}
		s.SetRandom(bytes.NewReader(bytes.Join([][]byte{boxContentKey, boxEphemeral, boxNonce}, nil)))
		line, err := s.Seal(seal.Content{ID: v.id, Exchange: "x", RoutingKey: v.routeKey, Body: []byte(boxPlaintext)})
		if err != nil || string(line) != v.line {
			t.Errorf("%s, %v:\n%s\nwant\n%s", v.suite, err, line, v.line)
		}
		o, err := seal.NewOpener(seal.OpenerConfig{Name: v.to, Keys: ringOf(t, boxKey(t, v.suite)), Suites: []seal.Suite{v.suite}})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := o.Open([]byte(v.line), seal.Expect{ID: v.id}); err != nil || string(m.Text) != boxPlaintext || m.Proven() || m.Suite != v.suite {
			t.Errorf("%s opened by an opener: %v %v", v.suite, m, err)
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
		"A": {func(p []byte, k *ecdh.PublicKey, r *bytes.Reader) ([]byte, error) { return seal.SealBoxA(p, k, r) }, seal.OpenBoxA, boxA},
		"B": {func(p []byte, k *ecdh.PublicKey, r *bytes.Reader) ([]byte, error) { return seal.SealBoxB(p, k, r) }, seal.OpenBoxB, boxB},
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
	if _, err := seal.OpenBoxB(a, key); err == nil {
		t.Error("a box of type A opens as type B")
	}
	if _, err := seal.OpenBoxA(b, key); err == nil {
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
	h := must(blake2b.New(24, nil))
	h.Write(both)
	h.Sum(nonceA[:0])
	sum := blake2b.Sum512(both)
	copy(nonceB[:], sum[:])
	if p, err := seal.OpenBoxA(secretbox.Seal(make([]byte, 32), boxContentKey, &nonceA, &keyA), key); err == nil {
		t.Errorf("type A opens to %x", p)
	}
	if p, err := seal.OpenBoxB(secretbox.Seal(make([]byte, 32), boxContentKey, &nonceB, &zero), key); err == nil {
		t.Errorf("type B opens to %x", p)
	}
	for _, suite := range []seal.Suite{seal.CipherMQG5, seal.HPKEX25519} {
		if _, err := seal.NewPublicKey(suite, make([]byte, 32)); err == nil {
			t.Errorf("%s takes a public key of low order", suite)
		}
	}
}

func TestBoxEnvelopesChanged(t *testing.T) {
	key := boxKey(t, seal.CipherMQG5)
	for _, v := range boxVectors {
		env, err := seal.Parse([]byte(v.line))
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.line {
			changed := []byte(v.line)
			changed[i] ^= 1
			_, text, err := key.Open(changed)
			if err == nil && string(text) != boxPlaintext {
				t.Errorf("%s, byte %d: opened to %q", v.suite, i, text)
			}
			if err != nil && (text != nil || strings.Contains(err.Error(), "Sample")) {
				t.Errorf("%s, byte %d: %q beside %v", v.suite, i, text, err)
			}
		}
		for name, tc := range map[string]struct {
			change func(e *seal.Envelope)
			want   error
		}{
			"no key":            {func(e *seal.Envelope) { e.EncSessionKey = nil }, seal.ErrWrongKey},
			"a short key":       {func(e *seal.Envelope) { e.EncSessionKey = e.EncSessionKey[1:] }, seal.ErrWrongKey},
			"another key":       {func(e *seal.Envelope) { e.EncSessionKey = bytes.Repeat([]byte{3}, 80) }, seal.ErrWrongKey},
			"no nonce":          {func(e *seal.Envelope) { e.Nonce = nil }, seal.ErrMalformed},
			"another nonce":     {func(e *seal.Envelope) { e.Nonce = sequence(0, 12) }, seal.ErrChanged},
			"no ciphertext":     {func(e *seal.Envelope) { e.Ciphertext = nil }, seal.ErrMalformed},
			"a cut ciphertext":  {func(e *seal.Envelope) { e.Ciphertext = e.Ciphertext[1:] }, seal.ErrChanged},
			"a tag of 12 bytes": {func(e *seal.Envelope) { e.Tag = make([]byte, 12) }, seal.ErrMalformed},
			"a tag too many":    {func(e *seal.Envelope) { e.Tag = make([]byte, 16) }, seal.ErrChanged},
		} {
			e := *env
			tc.change(&e)
			if _, text, err := key.Open(e.JSON()); !errors.Is(err, tc.want) || text != nil {
				t.Errorf("%s, %s: %q %v", v.suite, name, text, err)
			}
		}
	}
}

func TestOpenersWithCipherMQ(t *testing.T) {
	suites := []seal.Suite{seal.CipherMQRSA, seal.CipherMQG3, seal.CipherMQG4, seal.CipherMQG5, seal.CipherMQG6}
	rsaKey, g2 := vector(t)
	ring := ringOf(t, rsaKey, newKey(t, seal.CipherMQG4), boxKey(t, seal.CipherMQG5))
	o, err := seal.NewOpener(seal.OpenerConfig{Name: "receiver_1", Keys: ring, Suites: suites})
	if err != nil {
		t.Fatal(err)
	}
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
	sealFor := func(key *seal.PublicKey, name, text string) error {
		s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: name, Key: key}}})
		if err != nil {
			return err
		}
		c := content(text)
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
		key, err := boxKey(t, seal.CipherMQG5).Public().WithSuite(suite)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"x", "grüße", strings.Repeat("long ", 20_000)} {
			if err := sealFor(key, "receiver_1", text); err != nil {
				t.Errorf("%s: %v", suite, err)
			}
		}
		if sealFor(key, "receiver_1", "") == nil || sealFor(key, "Jane Doe", "x") == nil {
			t.Errorf("%s seals an empty text, or for a name with a space", suite)
		}
	}
	if err := sealFor(rsaKey.Public(), "receiver_1", "text"); err != nil {
		t.Error(err)
	}
	if _, err := newKey(t, seal.HPKEX25519).Public().WithSuite(seal.CipherMQG5); err == nil {
		t.Error("a key was moved to a suite that is not its own")
	}
}

func TestCipherMQKeysOfOtherMakers(t *testing.T) {
	private := base64.StdEncoding.EncodeToString(sequence(1, 32))
	key, err := seal.ImportPrivateKey(seal.CipherMQG6, []byte(private+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := seal.ImportPublicKey(seal.CipherMQG6, []byte(boxReceiver))
	if err != nil || public.Fingerprint() != key.Public().Fingerprint() || public.Suite() != seal.CipherMQG6 {
		t.Errorf("%v %v", public, err)
	}
	if other := boxKey(t, seal.CipherMQG3).Public(); other.Fingerprint() != public.Fingerprint() {
		t.Error("one key has two fingerprints")
	}
	if _, text, err := key.Open([]byte(lineG6)); err != nil || string(text) != boxPlaintext {
		t.Errorf("%q %v", text, err)
	}
	for name, data := range map[string]string{"nothing": "", "31 bytes": base64.StdEncoding.EncodeToString(sequence(1, 31)), "no base64": "!!!!", "raw bytes": string(sequence(1, 32))} {
		if _, err := seal.ImportPrivateKey(seal.CipherMQG5, []byte(data)); err == nil {
			t.Errorf("%s: accepted", name)
		} else if data != "" && strings.Contains(err.Error(), data) {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
	for _, suite := range []seal.Suite{seal.HPKEHybrid, seal.CipherMQRSA, "rot13"} {
		if _, err := seal.ImportPublicKey(suite, []byte(boxReceiver)); err == nil {
			t.Errorf("imported for %s", suite)
		}
	}
}

func TestKeyAloneIsNotEnough(t *testing.T) {
	for _, suite := range seal.Suites() {
		if suite == seal.CipherMQRSA {
			continue
		}
		key := newKey(t, suite)
		if _, err := key.Public().Seal("id", []byte("x")); !errors.Is(err, seal.ErrSuite) || seal.Hint(err) == "" {
			t.Errorf("%s: sealed with the key alone, %v", suite, err)
		}
		if _, _, err := key.Open([]byte(lineG5)); suite.Proves() && !errors.Is(err, seal.ErrSuite) {
			t.Errorf("%s: opened with the key alone, %v", suite, err)
		}
	}
}
