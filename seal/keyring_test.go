package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func TestKeysOfEverySuiteRoundTrip(t *testing.T) {
	for _, suite := range seal.Suites(ciphermq.Suites{}) {
		bits := 0
		if suite == ciphermq.RSA {
			bits = 2048
		}
		key, err := seal.Generate(suite, bits, ciphermq.Suites{})
		if err != nil {
			t.Fatal(err)
		}
		if key.Suite() != suite || time.Since(key.Created()) > time.Hour {
			t.Errorf("%s: key of suite %s, made %v", suite, key.Suite(), key.Created())
		}
		again, err := seal.ParsePrivateKey(append([]byte("# the laboratory's key\n"), key.PEM()...), ciphermq.Suites{})
		if err != nil {
			t.Fatalf("%s: %v", suite, err)
		}
		public, err := seal.ParsePublicKey(key.Public().PEM(), ciphermq.Suites{})
		if err != nil {
			t.Fatalf("%s: %v", suite, err)
		}
		raw, err := seal.NewPublicKey(suite, key.Public().Bytes(), ciphermq.Suites{})
		if err != nil {
			t.Fatalf("%s: %v", suite, err)
		}
		for form, other := range map[string]*seal.PublicKey{"private file": again.Public(), "public file": public, "bytes": raw} {
			if other.Fingerprint() != key.Public().Fingerprint() || other.Suite() != suite || other.Bits() != key.Public().Bits() {
				t.Errorf("%s: %s has %v, want %v", suite, form, other, key.Public())
			}
		}
		if suite != ciphermq.RSA && (!public.Created().Equal(key.Created()) || !again.Created().Equal(key.Created())) {
			t.Errorf("%s: made %v and %v, want %v", suite, public.Created(), again.Created(), key.Created())
		}
		if _, err := seal.ParsePublicKey(key.PEM(), ciphermq.Suites{}); !errors.Is(err, seal.ErrPrivateKey) {
			t.Errorf("%s: a private key as a public one: %v", suite, err)
		}
		if _, err := seal.ParsePrivateKey(key.Public().PEM()); !errors.Is(err, seal.ErrPublicKey) {
			t.Errorf("%s: a public key as a private one: %v", suite, err)
		}
		if _, err := seal.Generate(suite, 77, ciphermq.Suites{}); err == nil {
			t.Errorf("%s: a key of 77 bits", suite)
		}
	}
}

func TestFingerprintsArePinned(t *testing.T) {
	private, err := seal.NewPrivateKey(ciphermq.G5, sequence(1, 32), ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	key := private.Public()
	if got, want := key.Fingerprint(), fmt.Sprintf("sha256:%x", refPublicSum("ciphermq-x25519", key.Bytes())); got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
	if got := key.Digits(); !regexp.MustCompile(`^\d{5}( \d{5}){7}$`).MatchString(got) {
		t.Errorf("digits %q", got)
	}
	if got := seal.ReadOut(key.Fingerprint()); got != key.Digits() {
		t.Errorf("%q is read out for the fingerprint of %q", got, key.Digits())
	}
	for _, bad := range []string{"", "sha256:", key.Fingerprint()[7:], key.Fingerprint()[:70], key.Fingerprint() + "00", "sha512" + key.Fingerprint()[6:]} {
		if got := seal.ReadOut(bad); got != "" {
			t.Errorf("%q is read out for %q", got, bad)
		}
	}
	hpke, err := seal.NewPrivateKey(seal.HPKEX25519, sequence(1, 32), ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(hpke.Public().Bytes(), key.Bytes()) {
		t.Fatal("the same secret gives two points")
	}
	if hpke.Public().Fingerprint() == key.Fingerprint() || hpke.Public().Digits() == key.Digits() {
		t.Error("the same point in two kinds of suite has one fingerprint")
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	key := newKey(t, seal.HPKEX25519)
	private, public := string(key.PEM()), string(key.Public().PEM())
	swap := func(in, old, new string) string {
		out := strings.Replace(in, old, new, 1)
		if out == in {
			t.Fatalf("%q is not in the file", old)
		}
		return out
	}
	block := decodePEM(t, []byte(private))
	other := rawPrivate(t, newKey(t, seal.HPKEX25519))
	b64 := base64.StdEncoding.EncodeToString
	for name, tc := range map[string]struct{ data, want string }{
		"later version":     {swap(private, "Version: 1", "Version: 2"), "later SealMQ"},
		"no version":        {swap(private, "Version: 1\n", ""), "version"},
		"unknown suite":     {swap(private, "Suite: hpke-x25519", "Suite: rot13"), "rot13"},
		"other suite":       {swap(private, string(seal.HPKEX25519), string(seal.HPKEHybrid)), "damaged"},
		"no suite":          {swap(private, "Suite: hpke-x25519-aes256gcm\n", ""), "suite"},
		"unknown line":      {swap(private, "Version: 1", "Purpose: signing\nVersion: 1"), "Purpose"},
		"bad time":          {swap(private, "Created: 2", "Created: yesterday 2"), "time"},
		"another key":       {swap(private, b64(block.Bytes), b64(other)), "damaged"},
		"one bit":           {swap(private, b64(block.Bytes), b64(append([]byte{block.Bytes[0] ^ 0x40}, block.Bytes[1:]...))), "damaged"},
		"too short":         {swap(private, b64(block.Bytes), b64(block.Bytes[:30])), "no private key"},
		"no fingerprint":    {regexp.MustCompile("(?m)^Fingerprint: .*\n").ReplaceAllString(private, ""), "damaged"},
		"a retired key":     {swap(swap(private, "BEGIN SEALMQ PRIVATE", "BEGIN SEALMQ RETIRED"), "END SEALMQ PRIVATE", "END SEALMQ RETIRED"), "no private key"},
		"a public key":      {public, "public key"},
		"nothing":           {"", "no private key"},
		"a key with a text": {swap(private, "-----BEGIN", "secret text\n-----BEGINN"), "no private key"},
	} {
		k, err := seal.ParsePrivateKey([]byte(tc.data), ciphermq.Suites{})
		if err == nil || k != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), b64(block.Bytes)[:8]) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
	for name, data := range map[string]string{
		"other suite": swap(public, string(seal.HPKEX25519), string(ciphermq.G5)),
		"too short":   swap(public, b64(key.Public().Bytes()), b64(key.Public().Bytes()[:31])),
	} {
		if k, err := seal.ParsePublicKey([]byte(data), ciphermq.Suites{}); err == nil || k != nil {
			t.Errorf("%s: taken as a public key", name)
		}
	}
}

func TestRotateAndRetire(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	ring := ringOf(t)
	if ring.Newest() != nil {
		t.Error("an empty ring has a newest key")
	}
	var keys []*seal.PrivateKey
	for i := range 4 {
		key, err := ring.Rotate(seal.HPKEX25519, at.Add(time.Duration(i)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
		if ring.Newest() != key {
			t.Errorf("the key that was made last is not the newest")
		}
	}
	back, err := ring.Rotate(seal.HPKEHybrid, at.Add(-time.Hour)) // the clock was set back
	if err != nil {
		t.Fatal(err)
	}
	if ring.Newest() != back {
		t.Error("with the clock set back the new key is not the newest")
	}
	if err := ring.Add(keys[0]); err == nil {
		t.Error("a key was added twice")
	}
	fingerprint := keys[1].Public().Fingerprint()
	for _, bad := range []string{"", "sha256:", fingerprint[:len("sha256:")+7], "sha256:" + strings.Repeat("0", 64), "nonsense"} {
		if _, err := ring.Retire(bad, at); err == nil {
			t.Errorf("%q retired a key", bad)
		}
	}
	gone, err := ring.Retire(fingerprint[len("sha256:"):][:12], at.Add(5*time.Hour))
	if err != nil || gone.Fingerprint != fingerprint || !gone.Retired.Equal(at.Add(5*time.Hour)) || !gone.Created.Equal(keys[1].Created()) || gone.Suite != seal.HPKEX25519 {
		t.Errorf("%+v %v", gone, err)
	}
	if _, err := ring.Retire(fingerprint, at); err == nil {
		t.Error("a key was retired twice")
	}
	if err := ring.Add(keys[1]); err == nil {
		t.Error("a retired key came back")
	}

	again, err := seal.ParseKeyring(ring.PEM(), ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(ring.PEM(), []byte(base64.StdEncoding.EncodeToString(rawPrivate(t, keys[1])))) {
		t.Error("the secret of a retired key is in the file")
	}
	if !bytes.Equal(again.PEM(), ring.PEM()) {
		t.Errorf("the file reads\n%s\nand prints again as\n%s", ring.PEM(), again.PEM())
	}
	if len(again.Live()) != 4 || len(again.Retired()) != 1 || again.Retired()[0] != gone || again.Newest().Public().Fingerprint() != back.Public().Fingerprint() {
		t.Errorf("read %d live and %d retired keys", len(again.Live()), len(again.Retired()))
	}
	if key, err := seal.ParsePrivateKey(ring.PEM(), ciphermq.Suites{}); err != nil || key.Public().Fingerprint() != back.Public().Fingerprint() {
		t.Errorf("as a file with one key: %v", err)
	}
}

// The keys of a receiver may be of every suite, and from CipherMQ's own makers.
func TestRingOfAllKinds(t *testing.T) {
	rsaKey, _ := legacyKey(t)
	var file bytes.Buffer
	file.Write(rsaKey.PEM())
	pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: []byte("skipped")})
	file.Write(newKey(t, seal.HPKEHybrid).PEM())
	file.Write(newKey(t, ciphermq.G4).PEM())
	ring, err := seal.ParseKeyring(file.Bytes(), ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	live := ring.Live()
	if len(live) != 3 || live[2].Suite() != ciphermq.RSA {
		t.Errorf("%d keys, the oldest of suite %s", len(live), live[len(live)-1].Suite())
	}
	again, err := seal.ParseKeyring(ring.PEM(), ciphermq.Suites{})
	if err != nil || !bytes.Equal(again.PEM(), ring.PEM()) {
		t.Errorf("read again: %v", err)
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":       {nil, "no private key"},
		"a public key":  {newKey(t, seal.HPKEX25519).Public().PEM(), "public key"},
		"a damaged key": {append(ring.PEM(), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")...), "damaged"},
		"a key twice":   {append(ring.PEM(), ring.PEM()...), "already"},
		"encrypted":     {append(ring.PEM(), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})...), "passphrase"},
		"a nameless retired key": {append(ring.PEM(), pem.EncodeToMemory(&pem.Block{Type: "SEALMQ RETIRED KEY",
			Headers: map[string]string{"Version": "1", "Suite": string(seal.HPKEX25519), "Fingerprint": "sha256:xyz"}})...), "fingerprint"},
	} {
		if _, err := seal.ParseKeyring(tc.data, ciphermq.Suites{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All live keys open; which one was sealed for is in the envelope.
func TestOldKeysOpenWhatIsStillQueued(t *testing.T) {
	w := newWorld(t, seal.HPKEHybrid)
	ring := ringOf(t)
	var bodies [][]byte
	var ids []string
	s := (*seal.Sealer)(nil)
	for i, suite := range []seal.Suite{seal.HPKEX25519, seal.HPKEX25519, seal.HPKEHybrid} {
		key, err := ring.Rotate(suite, w.now.Add(time.Duration(i)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		w.keys["bob"] = key
		if s == nil {
			s = w.sealer([]string{"bob"})
		} else if err := s.SetReceivers(w.receivers("bob")); err != nil {
			t.Fatal(err)
		}
		c := content("text")
		bodies, ids = append(bodies, w.seal(s, c)), append(ids, c.ID)
	}
	o := w.opener("bob", func(c *seal.OpenerConfig) { c.Keys = ring })
	for i, body := range bodies {
		w.open(o, body, ids[i])
	}
	if _, err := ring.Retire(ring.Live()[1].Public().Fingerprint(), w.now); err != nil {
		t.Fatal(err)
	}
	w.open(o, bodies[1], ids[1]) // the opener has its own copy
	o.SetKeys(ring)
	w.open(o, bodies[0], ids[0])
	w.open(o, bodies[2], ids[2])
	if _, err := o.Open(bodies[1], seal.Expect{ID: ids[1]}); !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), "retired") {
		t.Errorf("for a retired key: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	ring := ringOf(t, newKey(t, seal.HPKEHybrid), newKey(t, ciphermq.G5))
	const logN = 10
	locked, err := seal.EncryptKeyFileWith(ring.PEM(), []byte("correct horse"), logN)
	if err != nil {
		t.Fatal(err)
	}
	if !seal.IsEncryptedKeyFile(locked) || seal.IsEncryptedKeyFile(ring.PEM()) || seal.IsEncryptedKeyFile(nil) {
		t.Error("IsEncryptedKeyFile is wrong")
	}
	if bytes.Contains(locked, []byte("hpke")) || bytes.Contains(locked, []byte("PRIVATE")) {
		t.Error("something of the keys is in clear")
	}
	if _, err := seal.ParseKeyring(locked, ciphermq.Suites{}); !errors.Is(err, seal.ErrEncryptedKey) {
		t.Errorf("as a ring: %v", err)
	}
	if _, err := seal.ParsePrivateKey(locked, ciphermq.Suites{}); !errors.Is(err, seal.ErrEncryptedKey) {
		t.Errorf("as a private key: %v", err)
	}
	if _, err := seal.ParsePublicKey(locked, ciphermq.Suites{}); !errors.Is(err, seal.ErrPrivateKey) {
		t.Errorf("as a public key: %v", err)
	}
	plain, err := seal.DecryptKeyFile(locked, []byte("correct horse"))
	if err != nil || !bytes.Equal(plain, ring.PEM()) {
		t.Errorf("unlocked: %v", err)
	}
	for _, wrong := range []string{"", "correct hors", "Correct horse", "correct horse\n"} {
		if p, err := seal.DecryptKeyFile(locked, []byte(wrong)); err == nil || p != nil {
			t.Errorf("the passphrase %q unlocks", wrong)
		}
	}
	other, err := seal.EncryptKeyFileWith(ring.PEM(), []byte("correct horse"), logN)
	if err != nil || bytes.Equal(locked, other) {
		t.Errorf("locked twice gives the same file, %v", err)
	}
	block := decodePEM(t, locked)
	for i := range block.Bytes {
		if i == 1 || i > 2 && i%16 != 0 {
			continue // the work factor has a test of its own, and each try takes a moment
		}
		changed := bytes.Clone(block.Bytes)
		changed[i] ^= 1
		if _, err := seal.DecryptKeyFile(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: changed}), []byte("correct horse")); err == nil {
			t.Errorf("with byte %d changed it unlocks", i)
		}
	}
	with := func(i int, v byte) []byte {
		p := bytes.Clone(block.Bytes)
		p[i] = v
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: p})
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"later version":    {with(0, 2), "later SealMQ"},
		"too little work":  {with(1, 9), "2^9"},
		"too much work":    {with(1, 21), "2^21"},
		"other work":       {with(1, 11), "wrong"},
		"cut":              {pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:30]}), "damaged"},
		"empty":            {pem.EncodeToMemory(&pem.Block{Type: block.Type}), "damaged"},
		"something behind": {append(bytes.Clone(locked), "hello"...), "damaged"},
		"a header":         {pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes, Headers: map[string]string{"A": "b"}}), "damaged"},
		"not encrypted":    {ring.PEM(), "not one"},
	} {
		if _, err := seal.DecryptKeyFile(tc.data, []byte("correct horse")); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := seal.EncryptKeyFile(ring.PEM(), nil); err == nil {
		t.Error("an empty passphrase was taken")
	}
	if _, err := seal.EncryptKeyFile(make([]byte, 2<<20), []byte("x")); err == nil {
		t.Error("a very large file was taken")
	}
}

func TestPassphraseAtItsRealCost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 128 MiB and half a second")
	}
	locked, err := seal.EncryptKeyFile([]byte("key file"), []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	if n := decodePEM(t, locked).Bytes[1]; n != 17 {
		t.Errorf("scrypt with N = 2^%d", n)
	}
}
