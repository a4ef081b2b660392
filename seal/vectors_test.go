package seal_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/trust"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

const vectorsPath = "testdata/vectors.json"

// The file testdata/vectors.json is for implementations of docs/sealing.md in another
// language. All bytes are in hexadecimal, all times in milliseconds since 1970.
type vectorFile struct {
	Comment   string           `json:"comment"`
	Root      hexBytes         `json:"root_certificate"`
	Keys      []vectorKey      `json:"keys"`
	Envelopes []vectorEnvelope `json:"envelopes"`
	Refused   []vectorRefused  `json:"refused"`
	CipherMQ  []vectorCipherMQ `json:"ciphermq"`
	KeyFile   vectorKeyFile    `json:"key_file"`
}

type vectorKey struct {
	Name        string     `json:"name"`
	Suite       seal.Suite `json:"suite"`
	Private     hexBytes   `json:"private"`
	Public      hexBytes   `json:"public"`
	KeyID       hexBytes   `json:"key_id"`
	Fingerprint string     `json:"fingerprint"`
	Digits      string     `json:"digits"`
}

type vectorEnvelope struct {
	Name  string     `json:"name"`
	Suite seal.Suite `json:"suite"`
	// What goes in.
	Sender        string            `json:"sender"`
	SignerKind    string            `json:"signer_kind"`
	SignerKey     hexBytes          `json:"signer_pkcs8"`
	Certificates  []hexBytes        `json:"certificates"`
	Created       uint64            `json:"created"`
	NotAfter      uint64            `json:"not_after"`
	MaxMessages   uint64            `json:"max_messages"`
	Previous      hexBytes          `json:"previous_epoch"`
	PreviousCount uint64            `json:"previous_messages"`
	Extensions    []vectorExtension `json:"extensions"`
	Receivers     []vectorReceiver  `json:"receivers"`
	ID            string            `json:"message_id"`
	Exchange      string            `json:"exchange"`
	RoutingKey    string            `json:"routing_key"`
	SealedAt      uint64            `json:"sealed_at"`
	Sequence      uint64            `json:"sequence"`
	Salt          hexBytes          `json:"salt"`
	Content       hexBytes          `json:"content"`
	PaddedTo      int               `json:"padded_to"`
	ChainLeftOut  bool              `json:"certificates_left_out"`
	// What comes of it, step by step.
	BodyHash         hexBytes `json:"header_body_sha256"`
	Secret           hexBytes `json:"epoch_secret"`
	Commitment       hexBytes `json:"commitment"`
	Header           hexBytes `json:"header"`
	HeaderHash       hexBytes `json:"header_sha256"`
	HeaderSignature  hexBytes `json:"header_signature"`
	Data             hexBytes `json:"additional_data"`
	MessageKey       hexBytes `json:"message_key"`
	Ciphertext       hexBytes `json:"ciphertext"`
	Digest           hexBytes `json:"digest"`
	MessageSignature hexBytes `json:"message_signature"`
	JSON             string   `json:"json"`
}

type vectorExtension struct {
	Type  uint16   `json:"type"`
	Value hexBytes `json:"value"`
}

type vectorReceiver struct {
	Name          string   `json:"name"`
	Key           string   `json:"key"`
	Encapsulation hexBytes `json:"encapsulation"`
	Exported      hexBytes `json:"exported"`
}

// vectorRefused is an envelope that the key "bob-x25519" must not open.
type vectorRefused struct {
	Name string `json:"name"`
	Why  string `json:"why"` // what a receiver should call it
	JSON string `json:"json"`
}

type vectorCipherMQ struct {
	Suite     seal.Suite `json:"suite"`
	Private   hexBytes   `json:"private"`
	Ephemeral hexBytes   `json:"ephemeral_private"`
	Key       hexBytes   `json:"content_key"`
	Receiver  string     `json:"receiver"`
	Route     string     `json:"routing_key"`
	ID        string     `json:"message_id"`
	Sent      string     `json:"sent"`
	Text      string     `json:"text"`
	Line      string     `json:"line"`
}

type vectorKeyFile struct {
	Private    string `json:"private"`
	Public     string `json:"public"`
	Retired    string `json:"retired"`
	Passphrase string `json:"passphrase"`
	Encrypted  string `json:"encrypted"`
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func (h *hexBytes) UnmarshalText(p []byte) (err error) {
	*h, err = hex.DecodeString(string(p))
	return err
}

var vectorNow = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func readVectors(t testing.TB) *vectorFile {
	t.Helper()
	data, err := os.ReadFile(vectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	f := new(vectorFile)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		t.Fatal(err)
	}
	if len(f.Envelopes) < 5 || len(f.Refused) < 20 || len(f.CipherMQ) != 4 || len(f.Keys) < 4 {
		t.Fatalf("%d envelopes, %d refused, %d of CipherMQ, %d keys", len(f.Envelopes), len(f.Refused), len(f.CipherMQ), len(f.Keys))
	}
	return f
}

func (f *vectorFile) key(t testing.TB, name string) *seal.PrivateKey {
	t.Helper()
	for _, k := range f.Keys {
		if k.Name == name {
			key, err := seal.NewPrivateKey(k.Suite, k.Private, ciphermq.Suites{})
			if err != nil {
				t.Fatal(err)
			}
			return key
		}
	}
	t.Fatalf("no key %q", name)
	return nil
}

func (f *vectorFile) verifier(t testing.TB) *trust.Verifier {
	t.Helper()
	root, err := x509.ParseCertificate(f.Root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &trust.Verifier{Roots: pool, Now: func() time.Time { return vectorNow }}
}

func (f *vectorFile) opener(t testing.TB, name string, key string, chain []byte) *seal.Opener {
	t.Helper()
	o, err := seal.NewOpener(seal.OpenerConfig{Name: name, Keys: ringOf(t, f.key(t, key)), Verifier: f.verifier(t),
		Now: func() time.Time { return vectorNow }, Chain: func([32]byte) ([]byte, error) { return chain, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestVectorKeys(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.Keys {
		public := f.key(t, v.Name).Public()
		if !bytes.Equal(public.Bytes(), v.Public) || public.Fingerprint() != v.Fingerprint || public.Digits() != v.Digits ||
			!strings.HasPrefix(public.Fingerprint(), fmt.Sprintf("sha256:%x", []byte(v.KeyID))) {
			t.Errorf("%s: %s %s %x", v.Name, public.Fingerprint(), public.Digits(), public.Bytes())
		}
	}
}

func TestVectorsOpen(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.Envelopes {
		var chain []byte
		for _, c := range v.Certificates {
			chain = append(chain, lp(c)...)
		}
		for _, r := range v.Receivers {
			o := f.opener(t, r.Name, r.Key, chain)
			m, err := o.Open([]byte(v.JSON), seal.Expect{ID: v.ID, Exchange: v.Exchange, RoutingKey: v.RoutingKey})
			if err != nil {
				t.Errorf("%s as %s: %v", v.Name, r.Name, err)
				continue
			}
			if !bytes.Equal(m.Text, v.Content) || m.Sender.ID != v.Sender || m.Sequence != v.Sequence || uint64(m.SealedAt.UnixMilli()) != v.SealedAt ||
				!bytes.Equal(m.Digest[:], v.Digest) || !bytes.Equal(m.Epoch.Hash[:], v.HeaderHash) || !bytes.Equal(m.Epoch.Previous[:], v.Previous) ||
				m.Epoch.PreviousMessages != v.PreviousCount || m.Epoch.MaxMessages != v.MaxMessages || len(m.Epoch.Extensions) != len(v.Extensions) {
				t.Errorf("%s as %s: %v", v.Name, r.Name, m)
			}
		}
	}
}

// sealer is a Sealer that begins exactly as the vector does.
func (f *vectorFile) sealer(t *testing.T, v *vectorEnvelope) *seal.Sealer {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(v.SignerKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain [][]byte
	for _, c := range v.Certificates {
		chain = append(chain, c)
	}
	signer, err := seal.NewSigner(v.Sender, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	signer.Deterministic()
	var to []seal.Receiver
	enc, keys := make(map[string][]byte), make(map[string]*seal.PrivateKey)
	for _, r := range v.Receivers {
		enc[r.Name], keys[r.Name] = r.Encapsulation, f.key(t, r.Key)
		to = append(to, seal.Receiver{Name: r.Name, Key: keys[r.Name].Public()})
	}
	var extensions []seal.Extension
	for _, x := range v.Extensions {
		extensions = append(extensions, seal.Extension{Type: x.Type, Value: x.Value})
	}
	s, err := seal.NewSealer(seal.SealerConfig{Receivers: to, EpochMessages: v.MaxMessages, OmitChain: func(*seal.Signer) bool { return v.ChainLeftOut },
		EpochAge:   time.Duration(v.NotAfter-v.Created) * time.Millisecond,
		Signer:     func() (*seal.Signer, error) { return signer, nil },
		Extensions: func() []seal.Extension { return extensions },
		Now:        func() time.Time { return time.UnixMilli(int64(v.Created)) }})
	if err != nil {
		t.Fatal(err)
	}
	s.SetEncapsulation(enc, keys)
	random := bytes.Clone(v.Salt)
	if len(v.Receivers) > 1 {
		random = cat(v.Secret, v.Salt)
	}
	s.SetRandom(bytes.NewReader(random))
	return s
}

// With the vectors' randomness the package must make the vectors' bytes.
func TestVectorsSeal(t *testing.T) {
	f := readVectors(t)
	made := 0
	for i := range f.Envelopes {
		v := &f.Envelopes[i]
		// RSA-PSS draws its salt by itself, a new Sealer has no epoch before, and does not pad.
		if v.SignerKind == "RSA" || v.PaddedTo > 0 || v.PreviousCount > 0 || v.Sequence != 1 {
			continue
		}
		c := seal.Content{ID: v.ID, Exchange: v.Exchange, RoutingKey: v.RoutingKey, Body: v.Content}
		if got, err := f.sealer(t, v).Seal(c); err != nil || string(got) != v.JSON {
			t.Errorf("%s, %v:\n%s\nwant\n%s", v.Name, err, got, v.JSON)
		}
		made++
	}
	if made < 3 {
		t.Errorf("only %d vectors can be made again", made)
	}
}

// The steps in between are what the second implementation calculates.
func TestVectorsStepByStep(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.Envelopes {
		key, err := x509.ParsePKCS8PrivateKey(v.SignerKey)
		if err != nil {
			t.Fatal(err)
		}
		again := v // what goes in stays, what comes of it is calculated
		again.fill(t, f, key.(crypto.Signer))
		if v.SignerKind == "RSA" {
			again.HeaderSignature, again.MessageSignature, again.JSON = v.HeaderSignature, v.MessageSignature, v.JSON
		}
		if d := cmp.Diff(v, again); d != "" {
			t.Errorf("%s: %s", v.Name, d)
		}
	}
}

var refusals = map[string]error{
	"malformed": seal.ErrMalformed, "version": seal.ErrVersion, "suite": seal.ErrSuite, "wrong key": seal.ErrWrongKey, "changed": seal.ErrChanged,
	"receiver": seal.ErrReceiver, "signature": seal.ErrSignature, "untrusted": seal.ErrUntrusted, "sender": seal.ErrSender,
	"expired": seal.ErrExpired, "not yet valid": seal.ErrNotYetValid, "time": seal.ErrTime, "epoch": seal.ErrEpoch,
}

func TestVectorsRefused(t *testing.T) {
	f := readVectors(t)
	o := f.opener(t, "bob", "bob-x25519", nil)
	for _, v := range f.Refused {
		kind := refusals[v.Why]
		if kind == nil {
			t.Errorf("%s: nothing is called %q", v.Name, v.Why)
		}
		if err := refused(t, o, []byte(v.JSON), seal.Expect{AnyID: true}, v.Name); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", v.Name, err, kind)
		}
	}
}

func TestVectorsOfCipherMQ(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.CipherMQ {
		key, err := seal.NewPrivateKey(v.Suite, v.Private, ciphermq.Suites{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := legacyOpener(t, v.Receiver, key).Open([]byte(v.Line), seal.Expect{ID: v.ID})
		if err != nil || string(m.Text) != v.Text {
			t.Errorf("%s opens to %v %v", v.Suite, m, err)
		}
	}
}

func TestVectorKeyFiles(t *testing.T) {
	f := readVectors(t)
	v := f.KeyFile
	key, err := seal.ParsePrivateKey([]byte(v.Private), ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	public, err := seal.ParsePublicKey([]byte(v.Public), ciphermq.Suites{})
	if err != nil || public.Fingerprint() != key.Public().Fingerprint() || string(key.PEM()) != v.Private || string(public.PEM()) != v.Public {
		t.Errorf("the public key is %v, %v", public, err)
	}
	ring, err := seal.ParseKeyring([]byte(v.Private+v.Retired), ciphermq.Suites{})
	if err != nil || len(ring.Retired()) != 1 || string(ring.PEM()) != v.Private+v.Retired {
		t.Errorf("with a retired key: %v", err)
	}
	plain, err := seal.DecryptKeyFile([]byte(v.Encrypted), []byte(v.Passphrase))
	if err != nil || string(plain) != v.Private {
		t.Errorf("under the passphrase there is %q, %v", plain, err)
	}
}
