package seal_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/trust"
)

const entryVectorsPath = "testdata/key-entries.json"

// The file testdata/key-entries.json has the vectors of docs/sealing.md, "Key entries".
type entryVectorFile struct {
	Comment string         `json:"comment"`
	Root    hexBytes       `json:"root_certificate"`
	Entries []entryVector  `json:"entries"`
	Refused []entryRefused `json:"refused"`
}

type entryVector struct {
	Name         string     `json:"name"`
	SignerKind   string     `json:"signer_kind"`
	SignerKey    hexBytes   `json:"signer_pkcs8"`
	Certificates []hexBytes `json:"certificates"`
	Owner        string     `json:"owner"`
	Suite        seal.Suite `json:"suite"`
	Created      uint64     `json:"created"`
	Serial       uint64     `json:"serial"`
	Previous     hexBytes   `json:"previous_entry"`
	Directory    hexBytes   `json:"directory,omitempty"`
	PublicKey    hexBytes   `json:"public_key"`
	Body         hexBytes   `json:"body"`
	Hash         hexBytes   `json:"hash"`
	Entry        hexBytes   `json:"entry"`
}

type entryRefused struct {
	Name  string   `json:"name"`
	Why   string   `json:"why"`
	Entry hexBytes `json:"entry"`
}

// refEntryBody encodes a body from the page alone.
func refEntryBody(version byte, owner, suite string, created, serial uint64, previous, key []byte) []byte {
	return cat([]byte{version}, lp(owner), lp(suite), u64(created), u64(serial), previous, lp(key))
}

func refEntry(signer crypto.Signer, label string, body []byte, certificates ...[]byte) []byte {
	var chain []byte
	for _, c := range certificates {
		chain = append(chain, lp(c)...)
	}
	return cat(lp(body), lp(refSign(signer, label, body)), lp(chain))
}

const entryLabel = "SealMQ v1 key entry"

func TestMakeEntryVectors(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	m := &vectorMaker{t: t, f: &vectorFile{}}
	m.authority()
	f := &entryVectorFile{Root: m.f.Root, Comment: "Vectors of docs/sealing.md, Key entries. Bytes are hexadecimal, times milliseconds since 1970. " +
		"For all of them it is 2026-05-04T10:00:00Z, and the name of who signs is the common name of the certificate. An entry is asked for under the name alice. The private keys are public: never use them."}
	now := uint64(vectorNow.UnixMilli())
	previous := make([]byte, 32)
	for i, v := range []struct {
		name, kind string
		suite      seal.Suite
	}{{"the first one, default suite", "P-256", seal.HPKEHybrid}, {"small suite", "Ed25519", seal.HPKEX25519}, {"RSA", "RSA", seal.HPKEX25519}, {"P-384, of CipherMQ's suites", "P-384", ciphermq.G5}} {
		signer := signerOf(v.kind)
		key := must(seal.NewPrivateKey(v.suite, sequence(byte(i), 32), ciphermq.Suites{})).Public().Bytes()
		e := entryVector{Name: v.name, SignerKind: v.kind, SignerKey: must(x509.MarshalPKCS8PrivateKey(signer)), Certificates: []hexBytes{m.certificate("alice", signer, nil)},
			Owner: "alice", Suite: v.suite, Created: now - 1000, Serial: uint64(i + 1), Previous: previous, PublicKey: key}
		e.Body = refEntryBody(1, e.Owner, string(e.Suite), e.Created, e.Serial, e.Previous, e.PublicKey)
		sum := sha256.Sum256(e.Body)
		e.Hash, previous = sum[:], sum[:]
		e.Entry = refEntry(signer, entryLabel, e.Body, e.Certificates[0])
		f.Entries = append(f.Entries, e)
	}
	e := f.Entries[1]
	e.Name, e.Directory = "names its directory", sequence(0x70, 32)
	e.Body = cat(refEntryBody(2, e.Owner, string(e.Suite), e.Created, e.Serial, e.Previous, e.PublicKey), e.Directory)
	sum := sha256.Sum256(e.Body)
	e.Hash, e.Entry = sum[:], refEntry(signerOf(e.SignerKind), entryLabel, e.Body, e.Certificates[0])
	f.Entries = append(f.Entries, e)
	m.refusedEntries(f)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(entryVectorsPath, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *vectorMaker) refusedEntries(f *entryVectorFile) {
	signer := signerOf("Ed25519")
	cert := m.certificate("alice", signer, nil)
	now, zeros := uint64(vectorNow.UnixMilli()), make([]byte, 32)
	key := must(seal.NewPrivateKey(seal.HPKEX25519, sequence(1, 32), ciphermq.Suites{})).Public().Bytes()
	const suite = "hpke-x25519-aes256gcm"
	add := func(name, why string, entry []byte) { f.Refused = append(f.Refused, entryRefused{name, why, entry}) }
	body := refEntryBody(1, "alice", suite, now, 1, zeros, key)
	good := refEntry(signer, entryLabel, body, cert)
	signed := func(body []byte) []byte { return refEntry(signer, entryLabel, body, cert) }
	add("cut", "malformed", good[:len(good)-1])
	add("something behind it", "malformed", cat(good, []byte{0}))
	add("something behind the body", "malformed", signed(cat(body, []byte{0})))
	add("version 3", "version", signed(cat(refEntryBody(3, "alice", suite, now, 1, zeros, key), sequence(1, 32))))
	add("version 2 without a directory", "malformed", signed(refEntryBody(2, "alice", suite, now, 1, zeros, key)))
	add("version 2 with zeros as directory", "malformed", signed(cat(refEntryBody(2, "alice", suite, now, 1, zeros, key), zeros)))
	add("version 1 with a directory", "malformed", signed(cat(body, sequence(1, 32))))
	add("an unknown suite", "suite", signed(refEntryBody(1, "alice", "hpke-next", now, 1, zeros, key)))
	add("no owner", "malformed", signed(refEntryBody(1, "", suite, now, 1, zeros, key)))
	add("an owner of two lines", "malformed", signed(refEntryBody(1, "al\nice", suite, now, 1, zeros, key)))
	add("serial 0", "malformed", signed(refEntryBody(1, "alice", suite, now, 0, zeros, key)))
	add("the first one with one before it", "malformed", signed(refEntryBody(1, "alice", suite, now, 1, sequence(1, 32), key)))
	add("the second one with none before it", "malformed", signed(refEntryBody(1, "alice", suite, now, 2, zeros, key)))
	add("after the year 9999", "malformed", signed(refEntryBody(1, "alice", suite, 253402300800000, 1, zeros, key)))
	add("a key that is too short", "malformed", signed(refEntryBody(1, "alice", suite, now, 1, zeros, key[1:])))
	add("a key of low order", "malformed", signed(refEntryBody(1, "alice", suite, now, 1, zeros, make([]byte, 32))))
	add("no certificate", "malformed", refEntry(signer, entryLabel, body))
	add("another label", "signature", refEntry(signer, "SealMQ v1 epoch header", body, cert))
	add("signed by somebody else", "signature", refEntry(signerOf("P-256"), entryLabel, body, cert))
	add("from the future", "time", signed(refEntryBody(1, "alice", suite, now+360_000, 1, zeros, key)))
	add("another owner than the expected one", "sender", refEntry(signer, entryLabel, refEntryBody(1, "mallory", suite, now, 1, zeros, key), m.certificate("mallory", signer, nil)))
	add("signed with another's certificate", "sender", refEntry(signer, entryLabel, body, m.certificate("mallory", signer, nil)))
	add("signed with an expired certificate", "expired", refEntry(signer, entryLabel, body, m.certificate("alice", signer, func(c *x509.Certificate) { c.NotAfter = vectorNow.Add(-time.Second) })))
	add("signed with a certificate of tomorrow", "not yet valid", refEntry(signer, entryLabel, body, m.certificate("alice", signer, func(c *x509.Certificate) { c.NotBefore = vectorNow.Add(24 * time.Hour) })))
	add("signed by an authority", "signature", refEntry(signer, entryLabel, body, m.certificate("alice", signer, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })))
	m.root, m.key = &x509.Certificate{SerialNumber: m.root.SerialNumber, Subject: m.root.Subject}, ed25519.NewKeyFromSeed(sequence(0x90, 32))
	add("of an unknown authority", "untrusted", refEntry(signer, entryLabel, body, m.certificate("alice", signer, nil)))
}

func readEntryVectors(tb testing.TB) (*entryVectorFile, *trust.Verifier) {
	tb.Helper()
	data, err := os.ReadFile(entryVectorsPath)
	if err != nil {
		tb.Fatal(err)
	}
	f := new(entryVectorFile)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil || len(f.Entries) < 4 || len(f.Refused) < 20 {
		tb.Fatalf("%d entries, %d refused, %v", len(f.Entries), len(f.Refused), err)
	}
	return f, (&vectorFile{Root: f.Root}).verifier(tb)
}

func TestEntryVectors(t *testing.T) {
	f, verifier := readEntryVectors(t)
	for _, v := range f.Entries {
		e, err := seal.ParseKeyEntry(v.Entry, ciphermq.Suites{})
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		sender, err := e.Verify(verifier, "alice", vectorNow)
		hash := e.Hash()
		if err != nil || sender.ID != "alice" || e.Owner != v.Owner || e.Suite() != v.Suite || uint64(e.Created.UnixMilli()) != v.Created || e.Serial != v.Serial ||
			!bytes.Equal(e.Previous[:], v.Previous) || !bytes.Equal(e.Directory[:], append(v.Directory, make([]byte, 32-len(v.Directory))...)) || !bytes.Equal(hash[:], v.Hash) || !bytes.Equal(e.PublicKey().Bytes(), v.PublicKey) {
			t.Errorf("%s: %+v, %v", v.Name, e, err)
		}
		if v.SignerKind == "RSA" {
			continue
		}
		signer, err := seal.NewSigner("alice", [][]byte{v.Certificates[0]}, must(x509.ParsePKCS8PrivateKey(v.SignerKey)))
		if err != nil {
			t.Fatal(err)
		}
		made, err := seal.NewKeyEntry(signer.Deterministic(), seal.KeyEntry{Key: e.Key, Created: e.Created, Serial: e.Serial, Previous: e.Previous, Directory: e.Directory})
		if err != nil || !bytes.Equal(made, v.Entry) {
			t.Errorf("%s, %v:\n%x\nwant\n%x", v.Name, err, made, []byte(v.Entry))
		}
	}
	for _, v := range f.Refused {
		e, err := seal.ParseKeyEntry(v.Entry, ciphermq.Suites{})
		if err == nil {
			_, err = e.Verify(verifier, "alice", vectorNow)
		}
		if kind := refusals[v.Why]; kind == nil || !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Why)
		}
	}
}

// Every byte counts, and so does the length.
func TestEveryFlippedByteOfAnEntry(t *testing.T) {
	f, verifier := readEntryVectors(t)
	for _, v := range f.Entries {
		for i := range v.Entry {
			bad := bytes.Clone(v.Entry)
			bad[i] ^= 1 << (i % 8)
			e, err := seal.ParseKeyEntry(bad, ciphermq.Suites{})
			if err == nil {
				_, err = e.Verify(verifier, "alice", vectorNow)
			}
			var known *seal.Error
			if !errors.As(err, &known) {
				t.Fatalf("%s: byte %d is changed, and the answer is %v", v.Name, i, err)
			}
		}
		for n := range v.Entry {
			if _, err := seal.ParseKeyEntry(v.Entry[:n], ciphermq.Suites{}); err == nil {
				t.Fatalf("%s: %d of %d bytes are an entry", v.Name, n, len(v.Entry))
			}
		}
	}
}

// Parts of two good entries make no third one.
func TestPartsOfEntriesSwapped(t *testing.T) {
	f, verifier := readEntryVectors(t)
	cut := func(p []byte) (parts [3][]byte) {
		for i := range parts {
			n := 2 + int(p[0])<<8 + int(p[1])
			parts[i], p = p[:n], p[n:]
		}
		return parts
	}
	for i, a := range f.Entries {
		for j, b := range f.Entries {
			if i == j {
				continue
			}
			for part := range 3 {
				mixed := cut(a.Entry)
				mixed[part] = cut(b.Entry)[part]
				if bytes.Equal(cat(mixed[:]...), a.Entry) { // the same certificate
					continue
				}
				e, err := seal.ParseKeyEntry(cat(mixed[:]...), ciphermq.Suites{})
				if err == nil {
					_, err = e.Verify(verifier, "alice", vectorNow)
				}
				if err == nil {
					t.Errorf("part %d of %q in %q is taken", part, b.Name, a.Name)
				}
			}
		}
	}
}

func TestKeyEntryDefaultsAndRefusals(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "alice")
	key := w.keys["alice"].Public()
	p, err := seal.NewKeyEntry(w.alice, seal.KeyEntry{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	e, err := seal.ParseKeyEntry(p, ciphermq.Suites{})
	if err != nil || e.Owner != "alice" || e.Serial != 1 || time.Since(e.Created) > time.Minute || e.PublicKey().Fingerprint() != key.Fingerprint() {
		t.Errorf("%+v, %v", e, err)
	}
	if len(p) > seal.MaxKeyEntryBytes {
		t.Errorf("%d bytes", len(p))
	}
	for name, bad := range map[string]seal.KeyEntry{
		"no key":                {},
		"somebody else's":       {Key: key, Owner: "bob"},
		"second without first":  {Key: key, Serial: 2},
		"first with a previous": {Key: key, Previous: [32]byte{1}},
		"before 1970":           {Key: key, Created: time.Unix(-1, 0)},
	} {
		if p, err := seal.NewKeyEntry(w.alice, bad); err == nil {
			t.Errorf("%s: %x", name, p)
		}
	}
	if _, err := seal.NewKeyEntry(nil, seal.KeyEntry{Key: key}); err == nil {
		t.Error("nobody has signed an entry")
	}
	revoked := w.verifier()
	revoked.Revocation = revokeAll{}
	if _, err := e.Verify(revoked, "alice", w.now); !errors.Is(err, seal.ErrRevoked) || hintOf(err) == "" {
		t.Errorf("revoked: %v", err)
	}
	undecided := &trust.Verifier{}
	if _, err := e.Verify(undecided, "alice", w.now); !errors.Is(err, seal.ErrUndecided) {
		t.Errorf("undecided: %v", err)
	}
}

type revokeAll struct{}

func (revokeAll) Check([]*x509.Certificate) error { return mtls.ErrRevoked }

// FuzzKeyEntry demands that what is read is encoded again to the same body, and that
// nothing but the vectors' entries verifies.
func FuzzKeyEntry(f *testing.F) {
	vectors, verifier := readEntryVectors(f)
	known := make(map[[32]byte]bool)
	for _, v := range vectors.Entries {
		f.Add([]byte(v.Entry))
		known[[32]byte(v.Hash)] = true
	}
	for _, v := range vectors.Refused {
		f.Add([]byte(v.Entry))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := seal.ParseKeyEntry(p, ciphermq.Suites{})
		if err != nil {
			var kind *seal.Error
			if !errors.As(err, &kind) || e != nil {
				t.Fatalf("%v beside an error without a kind: %v", e, err)
			}
			return
		}
		body := refEntryBody(1, e.Owner, string(e.Suite()), uint64(e.Created.UnixMilli()), e.Serial, e.Previous[:], e.Key.Bytes())
		if e.Directory != [32]byte{} {
			body = cat([]byte{2}, body[1:], e.Directory[:])
		}
		if !bytes.HasPrefix(p, lp(body)) || e.Hash() != sha256.Sum256(body) {
			t.Fatalf("%x\nis read as\n%x", p, body)
		}
		if _, err := e.Verify(verifier, "alice", vectorNow); err == nil && !known[e.Hash()] {
			t.Fatalf("an entry that nobody has signed: %x", p)
		}
	})
}
