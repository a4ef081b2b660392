package seal_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/seal"
)

// This file is a second implementation of docs/sealing.md, written from that page alone
// and without a thought of speed. It opens what the package seals, and it makes what no
// honest sender would.

type refSuite struct {
	code byte
	name string
	kem  hpke.KEM
	enc  int
}

var refSuites = map[seal.Suite]refSuite{
	seal.HPKEHybrid: {1, "hpke-mlkem768x25519-aes256gcm", hpke.MLKEM768X25519(), 1120},
	seal.HPKEX25519: {2, "hpke-x25519-aes256gcm", hpke.DHKEM(ecdh.X25519()), 32},
}

// refReceiver is a slot of a header with the sender's end of its encapsulation.
type refReceiver struct {
	name   string
	keyID  []byte
	enc    []byte
	export func(context string) []byte
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// refPublicSum is the SHA-256 that fingerprints are made of.
func refPublicSum(suite string, public []byte) []byte {
	sum := sha256.Sum256([]byte("SealMQ v1 public key\x00" + suite + "\x00" + string(public)))
	return sum[:]
}

func refEncapsulate(s refSuite, name string, public []byte) refReceiver {
	key := must(s.kem.NewPublicKey(public))
	enc, sender, err := hpke.NewSender(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("SealMQ v1 epoch\x00"+s.name))
	if err != nil {
		panic(err)
	}
	return refReceiver{name, refPublicSum(s.name, public)[:16], enc, func(c string) []byte { return must(sender.Export(c, 32)) }}
}

// refEpoch is everything that an epoch's header says, each field free to be a lie.
type refEpoch struct {
	version, suite    byte
	suiteName         string
	scheme            uint16
	created, notAfter uint64
	maxMessages       uint64
	previous          []byte
	previousCount     uint64
	chainSum          []byte // nil: of chain
	sender            string
	receivers         []refReceiver
	extensions        []byte
	secret            []byte // of several receivers
	commitment        []byte // nil: the right one
	masks             func(i int, mask []byte) []byte

	chain   []byte // certificates as in an envelope
	key     crypto.Signer
	label   string
	noChain bool

	headerBytes, signature []byte
}

func u16(n int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func lp[T ~string | ~[]byte](v T) []byte { return append(u16(len(v)), v...) }

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func refHKDF(secret, salt []byte, info string) []byte {
	return must(hkdf.Key(sha256.New, secret, salt, info, 32))
}

// finish lays the header out, derives the secret and signs.
func (e *refEpoch) finish() *refEpoch {
	if e.chainSum == nil {
		sum := sha256.Sum256(e.chain)
		e.chainSum = sum[:]
	}
	p := cat([]byte{e.version, e.suite}, u16(int(e.scheme)), u64(e.created), u64(e.notAfter), u64(e.maxMessages),
		e.previous, u64(e.previousCount), e.chainSum, lp(e.sender), []byte{byte(len(e.receivers))})
	for _, r := range e.receivers {
		p = cat(p, lp(r.name), r.keyID, r.enc)
	}
	p = cat(p, lp(e.extensions))
	body := sha256.Sum256(p)
	if len(e.receivers) == 1 {
		e.secret = e.receivers[0].export("SealMQ v1 epoch secret\x00" + string(body[:]))
	} else {
		for i, r := range e.receivers {
			mask := r.export("SealMQ v1 epoch mask\x00" + string(body[:]))
			if e.masks != nil {
				mask = e.masks(i, mask)
			}
			for j := range mask {
				mask[j] ^= e.secret[j]
			}
			p = cat(p, mask)
		}
	}
	if e.commitment == nil {
		e.commitment = refHKDF(e.secret, body[:], "SealMQ v1 epoch commitment\x00")
	}
	e.headerBytes = cat(p, e.commitment)
	e.signature = refSign(e.key, e.label, e.headerBytes)
	return e
}

func refToSign(label string, content []byte) []byte {
	return cat(bytes.Repeat([]byte{0x20}, 64), []byte(label), []byte{0}, content)
}

// refSign signs, with ECDSA deterministically (RFC 6979).
func refSign(key crypto.Signer, label string, content []byte) []byte {
	p := refToSign(label, content)
	switch k := key.Public().(type) {
	case ed25519.PublicKey:
		return must(key.Sign(nil, p, crypto.Hash(0)))
	case *rsa.PublicKey:
		sum := sha256.Sum256(p)
		return must(key.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}))
	case *ecdsa.PublicKey:
		if k.Params().BitSize == 384 {
			sum := sha512.Sum384(p)
			return must(key.Sign(nil, sum[:], crypto.SHA384))
		}
	}
	sum := sha256.Sum256(p)
	return must(key.Sign(nil, sum[:], crypto.SHA256))
}

func refVerify(key crypto.PublicKey, label string, content, sig []byte) bool {
	p := refToSign(label, content)
	sum := sha256.Sum256(p)
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, p, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: 32}) == nil
	case *ecdsa.PublicKey:
		if k.Params().BitSize == 384 {
			sum := sha512.Sum384(p)
			return ecdsa.VerifyASN1(k, sum[:], sig)
		}
		return ecdsa.VerifyASN1(k, sum[:], sig)
	}
	return false
}

// refMessage is everything of an envelope that is not its epoch's.
type refMessage struct {
	id, exchange, route string
	time, seq           uint64
	salt                []byte
	inner               []byte        // content, 1, zeros
	key                 crypto.Signer // signs the message; nil: nobody
	signature           []byte        // in place of key's
	label               string
}

func (e *refEpoch) data(m *refMessage) []byte {
	hash := sha256.Sum256(e.headerBytes)
	p := cat([]byte("SealMQ v1 data\x00"), hash[:], []byte{1}, lp(e.suiteName), lp(e.sender), []byte{byte(len(e.receivers))})
	for _, r := range e.receivers {
		p = cat(p, lp(r.name))
	}
	return cat(p, lp(m.id), lp(m.exchange), lp(m.route), u64(m.time), u64(m.seq))
}

func refDigest(data, salt, ciphertext []byte) []byte {
	sum := sha256.Sum256(cat([]byte("SealMQ v1 digest\x00"), data, salt, ciphertext))
	return sum[:]
}

func refGCM(secret, salt []byte, id string) cipher.AEAD {
	return must(cipher.NewGCM(must(aes.NewCipher(refHKDF(secret, salt, "SealMQ v1 key\x00"+id)))))
}

// sealed is the message part of an envelope.
func (e *refEpoch) sealed(m *refMessage) []byte {
	data := e.data(m)
	ciphertext := refGCM(e.secret, m.salt, m.id).Seal(nil, make([]byte, 12), m.inner, data)
	signature := m.signature
	if m.key != nil {
		signature = refSign(m.key, m.label, refDigest(data, m.salt, ciphertext))
	}
	return cat(u64(m.seq), u64(m.time), m.salt, lp(m.exchange), lp(m.route), lp(signature), ciphertext)
}

func (e *refEpoch) part() []byte {
	chain := e.chain
	if e.noChain {
		chain = nil
	}
	return cat(lp(e.headerBytes), lp(e.signature), lp(chain))
}

func (e *refEpoch) json(m *refMessage) []byte {
	return refJSON(m.id, e.suiteName, e.part(), e.sealed(m))
}

func refJSON(id, suite string, epoch, sealed []byte) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `{"message_id":%q,"suite":%q,"epoch":%q,"sealed":%q}`, id, suite, b64(epoch), b64(sealed))
}

// refParsed is an envelope cut at its seams.
type refParsed struct {
	id, suite     string
	epoch, sealed []byte
}

func refParse(tb testing.TB, body []byte) refParsed {
	tb.Helper()
	var v struct {
		ID     string `json:"message_id"`
		Suite  string
		Epoch  []byte
		Sealed []byte
	}
	if err := json.Unmarshal(body, &v); err != nil {
		tb.Fatal(err)
	}
	return refParsed{v.ID, v.Suite, v.Epoch, v.Sealed}
}

// honest is an epoch of a sender for receivers of the world, and a message in it.
func (w *world) honest(sender, kind string, to ...string) (*refEpoch, *refMessage) {
	w.tb.Helper()
	chain, key := w.certificate(sender, kind)
	s := refSuites[w.suite]
	now := uint64(w.now.UnixMilli())
	e := &refEpoch{version: 1, suite: s.code, suiteName: s.name, created: now, notAfter: now + 60_000, maxMessages: 100,
		previous: make([]byte, 32), sender: sender, secret: bytes.Repeat([]byte{7}, 32), chain: lp(chain[0]), key: key, label: "SealMQ v1 epoch header"}
	e.scheme = map[string]uint16{"P-256": 0x0403, "P-384": 0x0503, "RSA": 0x0804, "Ed25519": 0x0807}[kind]
	for _, name := range to {
		e.receivers = append(e.receivers, refEncapsulate(s, name, w.keys[name].Public().Bytes()))
	}
	m := &refMessage{id: seal.NewID(), exchange: testExchange, route: testRoute, time: now, seq: 1,
		salt: []byte("0123456789abcdef"), inner: []byte("the text\x01"), label: "SealMQ v1 message"}
	if len(to) > 1 {
		m.key = key
	}
	return e, m
}

// refOpened is what the second implementation reads in an envelope.
type refOpened struct {
	id, sender, exchange, route, text string
	receivers                         []string
	seq, time                         uint64
	digest                            []byte
}

var errRef = errors.New("refused")

// refOpen opens an envelope with one receiver's private key.
func refOpen(v refParsed, suite seal.Suite, name string, private []byte) (out refOpened, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errRef, r)
		}
	}()
	s, p := refSuites[suite], v.epoch
	take := func(n int) []byte {
		v := p[:n]
		p = p[n:]
		return v
	}
	check := func(ok bool, what string) {
		if !ok {
			panic(what)
		}
	}
	prefixed := func() []byte { return take(int(binary.BigEndian.Uint16(take(2)))) }
	head, signature, chain := prefixed(), prefixed(), prefixed()
	check(len(p) == 0, "epoch")
	id, message := []byte(v.id), v.sealed

	p = head
	check(take(1)[0] == 1 && take(1)[0] == s.code, "version or suite")
	take(2)
	created, notAfter, most := binary.BigEndian.Uint64(take(8)), binary.BigEndian.Uint64(take(8)), binary.BigEndian.Uint64(take(8))
	take(40)
	sum := sha256.Sum256(chain)
	check(bytes.Equal(take(32), sum[:]), "chain")
	sender := prefixed()
	n := int(take(1)[0])
	mine := -1
	var enc []byte
	e := refEpoch{suiteName: s.name, sender: string(sender), headerBytes: head}
	for i := range n {
		r := refReceiver{name: string(prefixed())}
		take(16)
		if r.name == name {
			mine, enc = i, take(s.enc)
		} else {
			take(s.enc)
		}
		e.receivers = append(e.receivers, r)
		out.receivers = append(out.receivers, r.name)
	}
	check(mine >= 0, "receiver")
	prefixed()
	body := sha256.Sum256(head[:len(head)-len(p)])
	recipient := must(hpke.NewRecipient(enc, must(s.kem.NewPrivateKey(private)), hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("SealMQ v1 epoch\x00"+s.name)))
	if n == 1 {
		e.secret = must(recipient.Export("SealMQ v1 epoch secret\x00"+string(body[:]), 32))
	} else {
		e.secret = must(recipient.Export("SealMQ v1 epoch mask\x00"+string(body[:]), 32))
		masked := take(32 * n)[32*mine:]
		for i := range e.secret {
			e.secret[i] ^= masked[i]
		}
	}
	check(bytes.Equal(p, refHKDF(e.secret, body[:], "SealMQ v1 epoch commitment\x00")), "commitment")
	leaf := must(x509.ParseCertificate(chain[2 : 2+binary.BigEndian.Uint16(chain)]))
	check(refVerify(leaf.PublicKey, "SealMQ v1 epoch header", head, signature), "signature")

	p = message
	m := refMessage{id: string(id), seq: binary.BigEndian.Uint64(take(8)), time: binary.BigEndian.Uint64(take(8)), salt: take(16),
		exchange: string(prefixed()), route: string(prefixed()), signature: prefixed()}
	check(m.seq >= 1 && m.seq <= most && m.time >= created && m.time <= notAfter, "bounds")
	data := e.data(&m)
	out.digest = refDigest(data, m.salt, p)
	if n > 1 {
		check(refVerify(leaf.PublicKey, "SealMQ v1 message", out.digest, m.signature), "message signature")
	}
	inner := must(refGCM(e.secret, m.salt, m.id).Open(nil, make([]byte, 12), p, data))
	inner = bytes.TrimRight(inner, "\x00")
	check(inner[len(inner)-1] == 1, "padding")
	out.id, out.sender, out.exchange, out.route, out.text = m.id, e.sender, m.exchange, m.route, string(inner[:len(inner)-1])
	out.seq, out.time = m.seq, m.time
	return out, nil
}

// rawPrivate is the private key's bytes as they are in its file.
func rawPrivate(tb testing.TB, key *seal.PrivateKey) []byte {
	tb.Helper()
	block := decodePEM(tb, key.PEM())
	return block.Bytes
}
