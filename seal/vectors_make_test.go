package seal_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// This file makes testdata/vectors.json with the second implementation, when asked to:
// go test ./seal -run TestMakeVectors -update

func (v *vectorEnvelope) chain() (p []byte) {
	for _, c := range v.Certificates {
		p = append(p, lp(c)...)
	}
	return p
}

// epoch is the second implementation's view of a vector.
func (v *vectorEnvelope) epoch(tb testing.TB, f *vectorFile, signer crypto.Signer) (*refEpoch, *refMessage) {
	tb.Helper()
	s := refSuites[v.Suite]
	e := &refEpoch{version: 1, suite: s.code, suiteName: s.name, created: v.Created, notAfter: v.NotAfter, maxMessages: v.MaxMessages,
		previous: v.Previous, previousCount: v.PreviousCount, sender: v.Sender, secret: bytes.Clone(v.Secret), chain: v.chain(), noChain: v.ChainLeftOut,
		key: signer, label: "SealMQ v1 epoch header"}
	e.scheme = map[string]uint16{"P-256": 0x0403, "P-384": 0x0503, "RSA": 0x0804, "Ed25519": 0x0807}[v.SignerKind]
	for _, x := range v.Extensions {
		e.extensions = cat(e.extensions, u16(int(x.Type)), lp(x.Value))
	}
	for _, r := range v.Receivers {
		key := f.key(tb, r.Key)
		recipient := must(hpke.NewRecipient(r.Encapsulation, must(s.kem.NewPrivateKey(rawPrivate(tb, key))),
			hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("SealMQ v1 epoch\x00"+s.name)))
		e.receivers = append(e.receivers, refReceiver{r.Name, refPublicSum(s.name, key.Public().Bytes())[:16], r.Encapsulation,
			func(c string) []byte { return must(recipient.Export(c, 32)) }})
	}
	inner := append(bytes.Clone(v.Content), 1)
	for v.PaddedTo > 0 && (len(inner)-1)%v.PaddedTo != 0 {
		inner = append(inner, 0)
	}
	m := &refMessage{id: v.ID, exchange: v.Exchange, route: v.RoutingKey, time: v.SealedAt, seq: v.Sequence, salt: v.Salt, inner: inner, label: "SealMQ v1 message"}
	if len(v.Receivers) > 1 {
		m.key = signer
	}
	return e, m
}

// fill calculates everything that comes of a vector's input.
func (v *vectorEnvelope) fill(tb testing.TB, f *vectorFile, signer crypto.Signer) {
	tb.Helper()
	e, m := v.epoch(tb, f, signer)
	e.finish()
	rest := 32
	if n := len(v.Receivers); n > 1 {
		rest += 32 * n
	}
	body := sha256.Sum256(e.headerBytes[:len(e.headerBytes)-rest])
	hash := sha256.Sum256(e.headerBytes)
	v.BodyHash, v.HeaderHash, v.Secret, v.Commitment, v.Header, v.HeaderSignature = body[:], hash[:], e.secret, e.commitment, e.headerBytes, e.signature
	label := "SealMQ v1 epoch secret\x00"
	if len(v.Receivers) > 1 {
		label = "SealMQ v1 epoch mask\x00"
	}
	v.Receivers = append([]vectorReceiver{}, v.Receivers...)
	for i := range v.Receivers {
		v.Receivers[i].Exported = e.receivers[i].export(label + string(body[:]))
	}
	v.Data = e.data(m)
	v.MessageKey = refHKDF(e.secret, m.salt, "SealMQ v1 key\x00"+m.id)
	v.Ciphertext = refGCM(e.secret, m.salt, m.id).Seal(nil, make([]byte, 12), m.inner, v.Data)
	v.Digest = refDigest(v.Data, m.salt, v.Ciphertext)
	v.MessageSignature = hexBytes{}
	sealed := e.sealed(m)
	if m.key != nil {
		at := 32 + 2 + len(m.exchange) + 2 + len(m.route)
		v.MessageSignature = sealed[at+2 : len(sealed)-len(v.Ciphertext)]
	}
	v.JSON = string(refJSON(m.id, e.suiteName, e.part(), sealed))
}

type vectorMaker struct {
	t    *testing.T
	f    *vectorFile
	root *x509.Certificate
	key  ed25519.PrivateKey
}

// The certificates of the vectors are valid from a year before to a year after them.
func (m *vectorMaker) authority() {
	m.key = ed25519.NewKeyFromSeed(sequence(0x80, 32))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SealMQ vectors"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: vectorNow.AddDate(-1, 0, 0), NotAfter: vectorNow.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(nil, template, template, m.key.Public(), m.key))
	m.root, m.f.Root = must(x509.ParseCertificate(der)), der
}

func (m *vectorMaker) certificate(name string, key crypto.Signer, change func(*x509.Certificate)) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: vectorNow.AddDate(-1, 0, 0),
		NotAfter: vectorNow.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	if change != nil {
		change(template)
	}
	return must(x509.CreateCertificate(nil, template, m.root, key.Public(), m.key))
}

func signerOf(kind string) crypto.Signer {
	switch kind {
	case "P-256":
		return must(ecdsa.ParseRawPrivateKey(elliptic.P256(), sequence(0x10, 32)))
	case "P-384":
		return must(ecdsa.ParseRawPrivateKey(elliptic.P384(), sequence(0x10, 48)))
	case "RSA":
		return rsaKey()
	}
	return ed25519.NewKeyFromSeed(sequence(0x10, 32))
}

func (m *vectorMaker) keys() {
	for i, k := range []struct {
		name  string
		suite seal.Suite
	}{{"bob-hybrid", seal.HPKEHybrid}, {"bob-x25519", seal.HPKEX25519}, {"carol-hybrid", seal.HPKEHybrid}, {"carol-x25519", seal.HPKEX25519}, {"bob-ciphermq", ciphermq.G5}} {
		private := sequence(byte(32*i), 32)
		public := must(seal.NewPrivateKey(k.suite, private, ciphermq.Suites{})).Public()
		m.f.Keys = append(m.f.Keys, vectorKey{k.name, k.suite, private, public.Bytes(), refPublicSum(strings.Replace(string(k.suite), "g5", "x25519", 1), public.Bytes())[:16],
			public.Fingerprint(), public.Digits()})
	}
}

// envelope begins a vector from alice to the named keys.
func (m *vectorMaker) envelope(name string, suite seal.Suite, kind string, keys ...string) vectorEnvelope {
	signer := signerOf(kind)
	now := uint64(vectorNow.UnixMilli())
	v := vectorEnvelope{Name: name, Suite: suite, Sender: "alice", SignerKind: kind, SignerKey: must(x509.MarshalPKCS8PrivateKey(signer)),
		Certificates: []hexBytes{m.certificate("alice", signer, nil)}, Created: now, NotAfter: now + 900_000, MaxMessages: 65536,
		Previous: make(hexBytes, 32), Secret: sequence(0xa0, 32), ID: "11111111-1111-4111-8111-111111111111", Exchange: "results", RoutingKey: "lab",
		SealedAt: now, Sequence: 1, Salt: sequence(0xc0, 16), Content: hexBytes("the result is negative")}
	s := refSuites[suite]
	for _, key := range keys {
		r := refEncapsulate(s, strings.Split(key, "-")[0], m.f.key(m.t, key).Public().Bytes())
		v.Receivers = append(v.Receivers, vectorReceiver{Name: r.name, Key: key, Encapsulation: r.enc})
	}
	return v
}

func (m *vectorMaker) add(v vectorEnvelope) {
	v.fill(m.t, m.f, signerOf(v.SignerKind))
	m.f.Envelopes = append(m.f.Envelopes, v)
}

func (m *vectorMaker) envelopes() {
	m.add(m.envelope("default suite", seal.HPKEHybrid, "P-256", "bob-hybrid"))
	m.add(m.envelope("small suite", seal.HPKEX25519, "Ed25519", "bob-x25519"))
	m.add(m.envelope("two receivers", seal.HPKEX25519, "P-384", "carol-x25519", "bob-x25519"))
	m.add(m.envelope("two receivers, default suite, RSA", seal.HPKEHybrid, "RSA", "bob-hybrid", "carol-hybrid"))

	v := m.envelope("empty and padded, with extensions", seal.HPKEX25519, "P-256", "bob-x25519")
	v.Content, v.PaddedTo = hexBytes{}, 64
	v.Extensions = []vectorExtension{{1, hexBytes("a checkpoint")}, {0x7001, hexBytes{}}}
	m.add(v)

	v = m.envelope("padded, certificates left out, other letters", seal.HPKEX25519, "P-256", "bob-x25519")
	v.ID, v.Exchange, v.RoutingKey, v.Content, v.PaddedTo, v.ChainLeftOut = `id-"ключ"`, "", "größe", hexBytes("ends in zeros\x00\x00"), 32, true
	m.add(v)

	v = m.envelope("later in a later epoch", seal.HPKEX25519, "Ed25519", "bob-x25519")
	v.Previous, v.PreviousCount, v.Sequence = sequence(1, 32), 65536, 7
	v.SealedAt = v.Created + 12345
	m.add(v)
}

func (m *vectorMaker) refused() {
	type change func(v *vectorEnvelope, e *refEpoch, msg *refMessage)
	add := func(name, why string, f change, after func(body string) string) {
		v := m.envelope(name, seal.HPKEX25519, "P-256", "bob-x25519")
		e, msg := v.epoch(m.t, m.f, signerOf("P-256"))
		if f != nil {
			f(&v, e, msg)
		}
		body := string(e.finish().json(msg))
		if after != nil {
			changed := after(body)
			if changed == body {
				m.t.Fatalf("%s: nothing changed", name)
			}
			body = changed
		}
		m.f.Refused = append(m.f.Refused, vectorRefused{name, why, body})
	}
	replace := func(old, new string) func(string) string {
		return func(body string) string { return strings.Replace(body, old, new, 1) }
	}
	chain := func(to func(key crypto.Signer) []byte) change {
		return func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.chain = lp(to(e.key)) }
	}
	add("another id", "changed", nil, replace("11111111-1", "11111111-2"))
	add("another suite outside", "malformed", nil, replace("hpke-x25519-aes256gcm", "hpke-mlkem768x25519-aes256gcm"))
	add("a member twice", "malformed", nil, replace("{", `{"sealed":"AA==",`))
	add("no suite", "malformed", nil, replace(`"suite"`, `"suites"`))
	add("base64 without its padding or with loose bits", "malformed", nil, func(s string) string { return strings.Replace(s, `","sealed":"`, `A","sealed":"`, 1) })
	add("version 2", "version", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.version = 2 }, nil)
	add("suite number 3", "suite", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.suite = 3 }, nil)
	add("another scheme", "signature", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.scheme = 0x0807 }, nil)
	add("signed under another label", "signature", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.label = "SealMQ v1 message" }, nil)
	add("another chain than the one that is named", "signature", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.chainSum = make([]byte, 32) }, nil)
	add("another commitment", "changed", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.commitment = make([]byte, 32) }, nil)
	add("an encapsulation of low order", "changed", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.receivers[0].enc = make([]byte, 32) }, nil)
	add("for another receiver", "receiver", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.receivers[0].name = "carol" }, nil)
	add("for another key", "wrong key", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.receivers[0].keyID = make([]byte, 16) }, nil)
	add("a receiver twice", "malformed", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.receivers = append(e.receivers, e.receivers[0]) }, nil)
	add("from another sender than the certificate's", "sender", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.sender = "mallory" }, nil)
	add("number 0", "epoch", func(_ *vectorEnvelope, _ *refEpoch, msg *refMessage) { msg.seq = 0 }, nil)
	add("a number over the epoch's", "epoch", func(_ *vectorEnvelope, _ *refEpoch, msg *refMessage) { msg.seq = 65537 }, nil)
	add("an epoch of more than a day", "epoch", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.notAfter = e.created + 86_400_001 }, nil)
	add("sealed before its epoch", "time", func(_ *vectorEnvelope, _ *refEpoch, msg *refMessage) { msg.time-- }, nil)
	add("sealed an hour from now", "time", func(_ *vectorEnvelope, e *refEpoch, msg *refMessage) {
		e.created += 3600_000
		e.notAfter, msg.time = e.created, e.created
	}, nil)
	add("no byte 1 before the padding", "malformed", func(_ *vectorEnvelope, _ *refEpoch, msg *refMessage) { msg.inner = []byte("text\x02") }, nil)
	add("a signature of a message for one receiver", "malformed", func(_ *vectorEnvelope, e *refEpoch, msg *refMessage) { msg.key = e.key }, nil)
	add("extensions out of order", "malformed", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.extensions = []byte{0, 2, 0, 0, 0, 1, 0, 0} }, nil)
	add("certificates left out that nobody knows", "untrusted", func(_ *vectorEnvelope, e *refEpoch, _ *refMessage) { e.noChain = true }, nil)
	add("a certificate of an unknown authority", "untrusted", chain(func(key crypto.Signer) []byte {
		other := ed25519.NewKeyFromSeed(sequence(0x90, 32))
		root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "alice"}, NotBefore: vectorNow.AddDate(-1, 0, 0), NotAfter: vectorNow.AddDate(1, 0, 0)}
		return must(x509.CreateCertificate(nil, leaf, root, key.Public(), other))
	}), nil)
	add("an expired certificate", "expired", chain(func(key crypto.Signer) []byte {
		return m.certificate("alice", key, func(c *x509.Certificate) { c.NotAfter = vectorNow.Add(-time.Second) })
	}), nil)
	add("a certificate of tomorrow", "not yet valid", chain(func(key crypto.Signer) []byte {
		return m.certificate("alice", key, func(c *x509.Certificate) { c.NotBefore = vectorNow.Add(24 * time.Hour) })
	}), nil)
	add("an authority's certificate", "untrusted", chain(func(key crypto.Signer) []byte {
		return m.certificate("alice", key, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	}), nil)

	v := m.envelope("", seal.HPKEX25519, "P-256", "carol-x25519", "bob-x25519")
	e, msg := v.epoch(m.t, m.f, signerOf("P-256"))
	e.finish()
	msg.key = nil
	m.f.Refused = append(m.f.Refused, vectorRefused{"several receivers, the message not signed", "signature", string(e.json(msg))})
	msg.key = signerOf("Ed25519")
	m.f.Refused = append(m.f.Refused, vectorRefused{"several receivers, the message signed by one of them", "signature", string(e.json(msg))})
}

func TestMakeVectors(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	m := &vectorMaker{t: t, f: &vectorFile{Comment: "Vectors of docs/sealing.md. Bytes are hexadecimal, times milliseconds since 1970. " +
		"For all of them it is 2026-05-04T10:00:00Z, the accepted authority is root_certificate, and a sender's name is the common name of its certificate. " +
		"The private keys are public: never use them."}}
	m.authority()
	m.keys()
	m.envelopes()
	m.refused()
	m.f.CipherMQ = readVectors(t).CipherMQ // CipherMQ has made them
	ring := ringOf(t)
	at := vectorNow.Add(-time.Hour)
	old := must(ring.Rotate(seal.HPKEX25519, at.Add(-time.Hour)))
	key := must(ring.Rotate(seal.HPKEX25519, at))
	must(ring.Retire(old.Public().Fingerprint(), vectorNow))
	m.f.KeyFile = vectorKeyFile{Private: string(key.PEM()), Public: string(key.Public().PEM()), Passphrase: "correct horse battery staple"}
	m.f.KeyFile.Retired = strings.TrimPrefix(string(ring.PEM()), m.f.KeyFile.Private)
	m.f.KeyFile.Encrypted = string(must(seal.EncryptKeyFileWith(key.PEM(), []byte(m.f.KeyFile.Passphrase), 14)))

	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(m.f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsPath, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
