package seal_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
)

func TestWrongReceiver(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob", "carol", "mallory")
	c := content(secretText)
	body := w.seal(w.sealer([]string{"bob"}), c)
	want := seal.Expect{ID: c.ID}
	if err := refused(t, w.opener("carol"), body, want, "another receiver"); !errors.Is(err, seal.ErrReceiver) || !strings.Contains(err.Error(), `"bob"`) {
		t.Error(err)
	}
	// Mallory has announced bob's key as hers; the sender seals for mallory, the broker
	// brings it to bob.
	w.keys["mallory"] = w.keys["bob"]
	body = w.seal(w.sealer([]string{"mallory"}), c)
	if err := refused(t, w.opener("bob"), body, want, "our key under another name"); !errors.Is(err, seal.ErrReceiver) || !strings.Contains(hintOf(err), "announced") {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
	// Bob has another key now.
	body = w.seal(w.sealer([]string{"bob"}), c)
	ring := w.ring("bob")
	retired, err := ring.Retire(w.keys["bob"].Public().Fingerprint(), w.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Rotate(w.suite, w.now); err != nil {
		t.Fatal(err)
	}
	o := w.opener("bob")
	w.open(o, body, c.ID)
	o.SetKeys(ring)
	if err := refused(t, o, body, want, "a retired key"); !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), retired.Fingerprint) {
		t.Error(err)
	}
	w.keys["bob"] = newKey(t, w.suite)
	if err := refused(t, w.opener("bob"), body, want, "a lost key"); !errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), retired.Fingerprint[:len("sha256:")+32]) {
		t.Error(err)
	}
}

func TestExpectations(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	c := content(secretText)
	body := w.seal(w.sealer([]string{"bob"}), c)
	o := w.opener("bob")
	for name, tc := range map[string]struct {
		want seal.Expect
		err  error
	}{
		"the id":                    {seal.Expect{ID: c.ID}, nil},
		"any id":                    {seal.Expect{AnyID: true}, nil},
		"everything":                {seal.Expect{ID: c.ID, Exchange: testExchange, RoutingKey: testRoute}, nil},
		"nothing":                   {seal.Expect{}, seal.ErrID},
		"another id":                {seal.Expect{ID: "another"}, seal.ErrID},
		"another exchange":          {seal.Expect{ID: c.ID, Exchange: "another"}, seal.ErrRoute},
		"another key":               {seal.Expect{ID: c.ID, RoutingKey: "another"}, seal.ErrRoute},
		"a key in another exchange": {seal.Expect{ID: c.ID, Exchange: "another", RoutingKey: testRoute}, seal.ErrRoute},
	} {
		if tc.err == nil {
			if _, err := o.Open(body, tc.want); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err := refused(t, o, body, tc.want, name); !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCertificatesLeftOut(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	chain, key := w.certificate("alice", "P-256")
	signer, err := seal.NewSigner("alice", chain, key)
	if err != nil {
		t.Fatal(err)
	}
	w.alice = signer
	c := content(secretText)
	body := w.seal(w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.OmitChain = func(*seal.Signer) bool { return true } }), c)
	full := w.seal(w.sealer([]string{"bob"}), c)
	if len(full)-len(body) < len(chain[0]) {
		t.Errorf("leaving out a certificate of %d bytes saves %d", len(chain[0]), len(full)-len(body))
	}
	if err := refused(t, w.opener("bob"), body, seal.Expect{ID: c.ID}, "unknown"); !errors.Is(err, seal.ErrUntrusted) {
		t.Error(err)
	}
	encoded := lp(chain[0])
	if own, sum := signer.Chain(); !bytes.Equal(own, encoded) || sum != sha256.Sum256(encoded) {
		t.Error("the signer's chain is another one")
	}
	known := func(with []byte, err error) func(*seal.OpenerConfig) {
		return func(cfg *seal.OpenerConfig) {
			cfg.Chain = func(sum [32]byte) ([]byte, error) {
				if sum != sha256.Sum256(encoded) {
					t.Errorf("asked for %x", sum)
				}
				return with, err
			}
		}
	}
	w.open(w.opener("bob", known(encoded, nil)), body, c.ID)
	other, _ := w.certificate("alice", "P-256")
	if err := refused(t, w.opener("bob", known(lp(other[0]), nil)), body, seal.Expect{ID: c.ID}, "another certificate"); !errors.Is(err, seal.ErrSignature) {
		t.Error(err)
	}
	away := errors.New("nobody answers")
	if err := refused(t, w.opener("bob", known(nil, away)), body, seal.Expect{ID: c.ID}, "nobody to ask"); !errors.Is(err, seal.ErrUndecided) || !errors.Is(err, away) {
		t.Error(err)
	}
}

// Bytes that a caller reuses must not reach into what is kept.
func TestTheBodyMayBeReused(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o := w.sealer([]string{"bob"}), w.opener("bob")
	var kept []*seal.Message
	for i := range 4 {
		c := seal.Content{ID: fmt.Sprintf("id-%d", i), Exchange: "exchange", RoutingKey: "key", Body: fmt.Appendf(nil, "text %d", i)}
		buf := w.seal(s, c)
		kept = append(kept, w.open(o, buf, c.ID))
		clear(buf)
	}
	for i, m := range kept {
		if m.ID != fmt.Sprintf("id-%d", i) || string(m.Text) != fmt.Sprintf("text %d", i) || m.Exchange != "exchange" || m.RoutingKey != "key" {
			t.Errorf("message %d became %v %q", i, m, m.Text)
		}
	}
}

func TestJSONFormsThatMustNotOpen(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	c := content(secretText)
	body := string(w.seal(w.sealer([]string{"bob"}), c))
	o := w.opener("bob")
	epoch := body[strings.Index(body, `"epoch":"`)+9 : strings.Index(body, `","sealed"`)]
	swap := func(old, new string) string { return strings.Replace(body, old, new, 1) }
	for name, changed := range map[string]string{
		"no padding in base64":     strings.ReplaceAll(body, "=", ""),
		"URL alphabet":             strings.NewReplacer("+", "-", "/", "_").Replace(body),
		"line feed in base64":      swap(epoch, epoch[:8]+`\n`+epoch[8:]),
		"raw line feed in base64":  swap(epoch, epoch[:8]+"\n"+epoch[8:]),
		"a member twice":           swap(`{`, `{"epoch":"AA==",`),
		"an id twice":              swap(`{`, `{"message_id":"other",`),
		"a suite twice":            swap(`{`, `{"suite":"rot13",`),
		"an empty epoch":           swap(epoch, ""),
		"no epoch":                 swap(`"epoch":`, `"epochs":`),
		"no sealed":                swap(`"sealed":`, `"sealedd":`),
		"the epoch is a number":    swap(`"`+epoch+`"`, "7"),
		"the suite is null":        swap(`"`+string(seal.HPKEX25519)+`"`, "null"),
		"two objects":              body + body,
		"an array":                 "[" + body + "]",
		"a string":                 `"SMQ"`,
		"a suite of another case":  swap(string(seal.HPKEX25519), strings.ToUpper(string(seal.HPKEX25519))),
		"the id in another member": swap(`"message_id"`, `"Message_id"`),
	} {
		if changed == body {
			continue // this envelope has none of the characters
		}
		if err := refused(t, o, []byte(changed), seal.Expect{AnyID: true}, name); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// JSON that says the same in other words.
	id, _ := strings.CutPrefix(c.ID, c.ID[:1])
	escaped := swap(c.ID, fmt.Sprintf(`\u%04x%s`, c.ID[0], id))
	w.open(o, []byte(escaped), c.ID)
}

func TestLaterVersionIsNamed(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	o := w.opener("bob")
	epoch := base64.StdEncoding.EncodeToString([]byte{0, 3, 2, 9, 9, 0, 0, 0, 0})
	body := fmt.Appendf(nil, `{"message_id":"a","suite":"x","epoch":%q,"sealed":%q}`, epoch, base64.StdEncoding.EncodeToString(make([]byte, 100)))
	if err := refused(t, o, body, seal.Expect{AnyID: true}, "version 2"); !errors.Is(err, seal.ErrVersion) || !strings.Contains(hintOf(err), "newer") {
		t.Error(err)
	}
}

func TestOpenerBoundsItsMemory(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	asked := 0
	o := w.opener("bob", func(c *seal.OpenerConfig) {
		c.MaxEpochs = 2
		c.Verifier = verifierFunc(func(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
			asked++
			return w.verifier().Verify(chain, at)
		})
	})
	s := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochMessages = 1 })
	var bodies [][]byte
	for range 3 {
		bodies = append(bodies, w.seal(s, content("text")))
	}
	for _, step := range []struct{ open, asked int }{{0, 1}, {1, 2}, {0, 2}, {2, 3}, {0, 3}, {1, 4}, {2, 5}} {
		if _, err := o.Open(bodies[step.open], seal.Expect{AnyID: true}); err != nil {
			t.Fatal(err)
		}
		if asked != step.asked {
			t.Errorf("after epoch %d: %d epochs opened, want %d", step.open, asked, step.asked)
		}
	}
}
