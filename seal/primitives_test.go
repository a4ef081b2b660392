package seal_test

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// The vectors of RFC 9180 for DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, whose
// exports are given as one sum over a thousand, and those of draft-ietf-hpke-pq for
// MLKEM768-X25519 with HKDF-SHA256, which exist with ChaCha20-Poly1305 only.
func TestHPKEVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/hpke.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors map[seal.Suite]struct {
		Info        hexBytes `json:"info"`
		Private     hexBytes `json:"skRm"`
		Public      hexBytes `json:"pkRm"`
		Enc         hexBytes `json:"enc"`
		Accumulated hexBytes `json:"exports_accumulated"`
		Exports     []struct {
			Context hexBytes `json:"exporter_context"`
			L       int
			Value   hexBytes `json:"exported_value"`
		} `json:"exports"`
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	aeads := map[seal.Suite]hpke.AEAD{seal.HPKEX25519: hpke.AES256GCM(), seal.HPKEHybrid: hpke.ChaCha20Poly1305()}
	for _, suite := range provingSuites {
		v := vectors[suite]
		key, err := seal.NewPrivateKey(suite, v.Private, ciphermq.Suites{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(key.Public().Bytes(), v.Public) {
			t.Errorf("%s: public key %x", suite, key.Public().Bytes())
		}
		export := func(context []byte, n int) []byte {
			p, err := seal.ExportOf(suite, v.Private, v.Enc, aeads[suite], v.Info, string(context), n)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		for _, x := range v.Exports {
			if got := export(x.Context, x.L); !bytes.Equal(got, x.Value) {
				t.Errorf("%s: exported %x, want %x", suite, got, x.Value)
			}
		}
		if v.Accumulated == nil {
			if len(v.Exports) == 0 {
				t.Errorf("%s: no vectors", suite)
			}
			continue
		}
		source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
		for n := range 1000 {
			length := make([]byte, 1)
			source.Read(length)
			context := make([]byte, length[0])
			source.Read(context)
			sum.Write(export(context, n))
		}
		got := make([]byte, 16)
		sum.Read(got)
		if !bytes.Equal(got, v.Accumulated) {
			t.Errorf("%s: a thousand exports come to %x, want %x", suite, got, v.Accumulated)
		}
	}
}

type wycheproofCase struct {
	ID     int    `json:"tcId"`
	Type   string `json:"type"`
	Result string `json:"result"`
	Size   int    `json:"size"`
	// Names are the file's.
	Public, Private, Shared hexBytes
	Key, IV, AAD, Msg, CT   hexBytes
	Tag, IKM, Salt, Info    hexBytes
	OKM, Seed, EK, C        hexBytes
	K                       hexBytes `json:"K"`
}

func wycheproof(t *testing.T) map[string][]wycheproofCase {
	t.Helper()
	f, err := os.Open("testdata/wycheproof.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]wycheproofCase)
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"x25519": 518, "aes-gcm": 86, "chacha20-poly1305": 316, "hkdf-sha256": 86, "ml-kem-768": 13} {
		if len(all[name]) != n {
			t.Errorf("%d cases of %s, want %d", len(all[name]), name, n)
		}
	}
	return all
}

func TestWycheproof(t *testing.T) {
	all := wycheproof(t)
	for _, c := range all["x25519"] {
		var shared []byte
		private, err := ecdh.X25519().NewPrivateKey(c.Private)
		if err == nil {
			var public *ecdh.PublicKey
			if public, err = ecdh.X25519().NewPublicKey(c.Public); err == nil {
				shared, err = private.ECDH(public)
			}
		}
		zero := bytes.Equal(c.Shared, make([]byte, 32))
		if zero != (err != nil) || !zero && !bytes.Equal(shared, c.Shared) {
			t.Errorf("X25519 %d, %s: %x %v", c.ID, c.Result, shared, err)
		}
		if _, err := seal.NewPublicKey(ciphermq.G5, c.Public, ciphermq.Suites{}); zero != (err != nil) {
			t.Errorf("X25519 %d: as a receiver's key: %v", c.ID, err)
		}
	}
	aead := func(name string, c wycheproofCase, a cipher.AEAD) {
		sealed := append(bytes.Clone(c.CT), c.Tag...)
		text, err := a.Open(nil, c.IV, sealed, c.AAD)
		if (err == nil) != (c.Result == "valid") || err == nil && !bytes.Equal(text, c.Msg) {
			t.Errorf("%s %d, %s: %x %v", name, c.ID, c.Result, text, err)
		}
		if c.Result == "valid" && !bytes.Equal(a.Seal(nil, c.IV, c.Msg, c.AAD), sealed) {
			t.Errorf("%s %d: sealed otherwise", name, c.ID)
		}
	}
	for _, c := range all["aes-gcm"] {
		aead("AES-GCM", c, must(cipher.NewGCMWithNonceSize(must(aes.NewCipher(c.Key)), len(c.IV))))
	}
	for _, c := range all["chacha20-poly1305"] {
		aead("ChaCha20-Poly1305", c, must(chacha20poly1305.New(c.Key)))
	}
	for _, c := range all["hkdf-sha256"] {
		okm, err := hkdf.Key(sha256.New, c.IKM, c.Salt, string(c.Info), c.Size)
		if (err == nil) != (c.Result == "valid") || err == nil && !bytes.Equal(okm, c.OKM) {
			t.Errorf("HKDF %d, %s: %x %v", c.ID, c.Result, okm, err)
		}
	}
	for _, c := range all["ml-kem-768"] {
		if c.Type == "MLKEMEncapsTest" {
			// An encapsulation key out of range must be refused, also as half of a hybrid key.
			if _, err := mlkem.NewEncapsulationKey768(c.EK); err == nil {
				t.Errorf("ML-KEM %d: the key is taken", c.ID)
			}
			point, _ := hex.DecodeString("430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c")
			if _, err := seal.NewPublicKey(seal.HPKEHybrid, append(bytes.Clone(c.EK), point...)); err == nil {
				t.Errorf("ML-KEM %d: the hybrid key is taken", c.ID)
			}
			continue
		}
		key := must(mlkem.NewDecapsulationKey768(c.Seed))
		if !bytes.Equal(key.EncapsulationKey().Bytes(), c.EK) {
			t.Errorf("ML-KEM %d: another public key", c.ID)
		}
		if k, err := key.Decapsulate(c.C); err != nil || !bytes.Equal(k, c.K) {
			t.Errorf("ML-KEM %d: %x %v, want %x", c.ID, k, err, []byte(c.K))
		}
	}
}

func TestHKDFIsThatOfTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		salt := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "salt")
		label, info := rapid.String().Draw(t, "label"), rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "info")
		want, err := hkdf.Key(sha256.New, secret[:], salt, label+string(info), 32)
		if err != nil {
			t.Fatal(err)
		}
		if got := seal.HKDF(secret, salt, label, info); !bytes.Equal(got[:], want) {
			t.Errorf("%x, want %x", got, want)
		}
	})
}
