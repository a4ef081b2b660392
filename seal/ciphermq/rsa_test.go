package ciphermq_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

const (
	vectorID   = "11111111-1111-4111-8111-111111111111"
	vectorText = "Secure message delivered via CipherMQ with mTLS and hybrid encryption."
)

var (
	vectorContentKey = sequence(0x00, 16)
	vectorNonce      = sequence(0x10, 16)
)

func sequence(first byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = first + byte(i)
	}
	return p
}

// vector returns CipherMQ's published throw-away key of 1048 bits and the envelope
// that was sealed for it.
func vector(tb testing.TB) (seal.LegacyPrivateKey, []byte) {
	tb.Helper()
	keyPEM, err := os.ReadFile("testdata/g2-1048.pem")
	if err != nil {
		tb.Fatal(err)
	}
	block, _ := pem.Decode(keyPEM)
	_, key, err := ciphermq.Suites{}.PrivatePEM(block)
	if err != nil {
		tb.Fatal(err)
	}
	body, err := os.ReadFile("testdata/g2-envelope.json")
	if err != nil {
		tb.Fatal(err)
	}
	return key, body
}

// open opens an envelope and returns the id that it names.
func open(k seal.LegacyPrivateKey, body []byte) (id string, text []byte, err error) {
	if e, err := ciphermq.Parse(body); err == nil {
		id = e.MessageID
	}
	text, err = k.Open(body)
	return id, text, err
}

// sealFor seals for an RSA key.
func sealFor(k seal.LegacyPrivateKey, id string, text []byte) ([]byte, error) {
	return k.Public().Seal(ciphermq.RSA, "", seal.Content{ID: id, Body: text}, time.Time{}, rand.Reader)
}

func TestOpenPublishedSample(t *testing.T) {
	key, body := vector(t)
	id, text, err := open(key, body)
	if err != nil {
		t.Fatal(err)
	}
	if id != vectorID || string(text) != vectorText {
		t.Errorf("opened id %q text %q", id, text)
	}
}

func TestSealMatchesPublishedSample(t *testing.T) {
	key, body := vector(t)
	got, err := ciphermq.SealWith(key.Public(), vectorID, []byte(vectorText), vectorContentKey, vectorNonce)
	if err != nil {
		t.Fatal(err)
	}
	// OAEP is randomised, so the wrapped key differs; every other byte must be the same.
	if mask(t, got) != mask(t, body) {
		t.Errorf("sealed\n%s\nwant, but for enc_session_key,\n%s", got, body)
	}
	if len(got) != len(body) {
		t.Errorf("sealed %d bytes, want %d", len(got), len(body))
	}
	if _, text, err := open(key, got); err != nil || string(text) != vectorText {
		t.Errorf("opened %q, %v", text, err)
	}
}

func mask(t *testing.T, body []byte) string {
	t.Helper()
	env, err := ciphermq.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(body), base64.StdEncoding.EncodeToString(env.EncSessionKey), "*", 1)
}

func TestSealAndOpen(t *testing.T) {
	small, _ := vector(t)
	big, err := ciphermq.Suites{}.Generate(ciphermq.RSA, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []seal.LegacyPrivateKey{small, big} {
		for _, size := range []int{1, 15, 16, 17, 4096, 100_000} {
			want := bytes.Repeat([]byte("é"), size)[:size]
			id := seal.NewID()
			body, err := sealFor(key, id, want)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.ContainsAny(body, "\n\r") {
				t.Errorf("envelope of %d bytes is not one line", size)
			}
			gotID, got, err := open(key, body)
			if err != nil || gotID != id || !bytes.Equal(got, want) {
				t.Errorf("%d bits, %d bytes: opened id %q, equal %t, %v", key.Public().Bits(), size, gotID, bytes.Equal(got, want), err)
			}
		}
	}
}

func TestSealIsFreshEachTime(t *testing.T) {
	key, _ := vector(t)
	seen := make(map[string]bool)
	for range 50 {
		body, err := sealFor(key, "id", []byte("same text"))
		if err != nil {
			t.Fatal(err)
		}
		env, err := ciphermq.Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range [][]byte{env.Nonce, env.EncSessionKey, env.Ciphertext, env.Tag} {
			if seen[string(p)] {
				t.Fatal("a nonce, key, ciphertext or tag came twice")
			}
			seen[string(p)] = true
		}
	}
}

// Other implementations may send another nonce length; 12 is what CipherMQ's documents say.
func TestOpenTakesAnyNonceLength(t *testing.T) {
	key, _ := vector(t)
	for _, n := range []int{1, 8, 12, 13, 16, 32, 200} {
		body, err := ciphermq.SealWith(key.Public(), "id", []byte("text"), vectorContentKey, sequence(1, n))
		if err != nil {
			t.Fatal(err)
		}
		if _, text, err := open(key, body); err != nil || string(text) != "text" {
			t.Errorf("nonce of %d bytes: %q, %v", n, text, err)
		}
	}
}

// The envelope of this test is built from the standard library alone.
func TestOpenForeignEnvelope(t *testing.T) {
	key, _ := vector(t)
	pub := publicRSA(t, key)
	block, err := aes.NewCipher(vectorContentKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, 12)
	if err != nil {
		t.Fatal(err)
	}
	nonce := sequence(3, 12)
	sealed := gcm.Seal(nil, nonce, []byte("grüße"), nil)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, vectorContentKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	body := fmt.Sprintf(`{"ciphertext":%q,"extra":{"a":[1,{"tag":null}]},"nonce":%q,"tag":%q,"enc_session_key":%q,"message_id":"a\u002db"}`,
		b64(sealed[:len(sealed)-16]), b64(nonce), b64(sealed[len(sealed)-16:]), b64(wrapped))
	id, text, err := open(key, []byte(body))
	if err != nil || id != "a-b" || string(text) != "grüße" {
		t.Errorf("opened %q %q %v", id, text, err)
	}
}

func publicRSA(t *testing.T, key seal.LegacyPrivateKey) *rsa.PublicKey {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(key.Public().PEM().Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.(*rsa.PublicKey)
}

// G2 binds neither id nor member order, so a flip inside the id's text may open; then
// the text must be the very same, and nothing else may open.
func TestEveryFlippedBit(t *testing.T) {
	key, body := vector(t)
	idStart := bytes.Index(body, []byte(vectorID))
	var opened int
	for i := range body {
		for bit := range 8 {
			flipped := bytes.Clone(body)
			flipped[i] ^= 1 << bit
			id, text, err := open(key, flipped)
			if err != nil {
				if strings.Contains(err.Error(), "Secure") || text != nil {
					t.Errorf("byte %d bit %d: plaintext left with the error %q", i, bit, err)
				}
				continue
			}
			opened++
			if inID := i >= idStart && i < idStart+len(vectorID); !inID {
				t.Errorf("byte %d bit %d (%q): opened", i, bit, flipped[i])
			}
			if string(text) != vectorText || id == vectorID {
				t.Errorf("byte %d bit %d: id %q text %q", i, bit, id, text)
			}
		}
	}
	if opened == 0 {
		t.Error("no flip inside the message id opened: the test does not test what it says")
	}
}

func TestTruncatedAndSwapped(t *testing.T) {
	key, body := vector(t)
	for i := range body {
		if _, _, err := open(key, body[:i]); !errors.Is(err, seal.ErrMalformed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	first, second := sealed(t, key, "one text"), sealed(t, key, "two text")
	cases := []struct {
		name string
		mix  func(e *ciphermq.Envelope)
		want error
	}{
		{"content key of another", func(e *ciphermq.Envelope) { e.EncSessionKey = second.EncSessionKey }, seal.ErrChanged},
		{"nonce of another", func(e *ciphermq.Envelope) { e.Nonce = second.Nonce }, seal.ErrChanged},
		{"tag of another", func(e *ciphermq.Envelope) { e.Tag = second.Tag }, seal.ErrChanged},
		{"ciphertext of another", func(e *ciphermq.Envelope) { e.Ciphertext = second.Ciphertext }, seal.ErrChanged},
		{"ciphertext cut", func(e *ciphermq.Envelope) { e.Ciphertext = e.Ciphertext[1:] }, seal.ErrChanged},
		{"tag cut", func(e *ciphermq.Envelope) { e.Tag = e.Tag[:12] }, seal.ErrMalformed},
		{"no tag", func(e *ciphermq.Envelope) { e.Tag = nil }, seal.ErrMalformed},
		{"no nonce", func(e *ciphermq.Envelope) { e.Nonce = nil }, seal.ErrMalformed},
		{"no ciphertext", func(e *ciphermq.Envelope) { e.Ciphertext = nil }, seal.ErrMalformed},
		{"no content key", func(e *ciphermq.Envelope) { e.EncSessionKey = nil }, seal.ErrMalformed},
		{"short content key", func(e *ciphermq.Envelope) { e.EncSessionKey = e.EncSessionKey[:64] }, seal.ErrWrongKey},
		{"zero content key", func(e *ciphermq.Envelope) { clear(e.EncSessionKey) }, seal.ErrWrongKey},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := *first
			e.EncSessionKey = bytes.Clone(first.EncSessionKey)
			c.mix(&e)
			if _, text, err := open(key, e.JSON()); !errors.Is(err, c.want) || text != nil {
				t.Errorf("%v with text %q, want %v", err, text, c.want)
			}
		})
	}
}

func sealed(t *testing.T, key seal.LegacyPrivateKey, text string) *ciphermq.Envelope {
	t.Helper()
	body, err := sealFor(key, seal.NewID(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	env, err := ciphermq.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestOtherKey(t *testing.T) {
	_, body := vector(t)
	other, err := ciphermq.Suites{}.Generate(ciphermq.RSA, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(other, body); !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), "2048") {
		t.Errorf("envelope for a key of another size: %v", err)
	}
	same, err := ciphermq.Suites{}.Generate(ciphermq.RSA, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(same, sealed(t, other, "text").JSON()); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("envelope for another key of the same size: %v", err)
	}
}

func TestSealRefuses(t *testing.T) {
	key, _ := vector(t)
	if _, err := sealFor(key, "id", nil); err == nil {
		t.Error("an empty message was sealed")
	}
}

func TestIDsAreEscaped(t *testing.T) {
	key, _ := vector(t)
	for _, id := range []string{`a"b`, `a\b`, `a"},{"x`, "ключ-1"} {
		body, err := sealFor(key, id, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := open(key, body); err != nil || got != id {
			t.Errorf("id %q came back as %q, %v", id, got, err)
		}
	}
}
