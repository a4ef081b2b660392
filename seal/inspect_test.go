package seal_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func TestInspect(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob", "carol")
	c := content(secretText)
	for form, body := range forms(t, w, c) {
		info, err := seal.Inspect(body, ciphermq.Suites{})
		if err != nil {
			t.Fatal(err)
		}
		if info.ID != c.ID || info.Sender != "alice" || info.Exchange != testExchange || info.RoutingKey != testRoute || info.Suites[0] != seal.HPKEX25519 ||
			info.Receivers[0] != "bob" || len(info.Keys) != len(info.Receivers) || !strings.HasPrefix(w.keys["bob"].Public().Fingerprint(), info.Keys[0]) ||
			info.Sequence == 0 || info.SealedAt.UnixMilli() != w.now.UnixMilli() {
			t.Errorf("%s: %+v", form, info)
		}
		for i := 0; i < len(body); i += 7 {
			if _, err := seal.Inspect(body[:i], ciphermq.Suites{}); !errors.Is(err, seal.ErrMalformed) {
				t.Errorf("%s cut at %d: %v", form, i, err)
			}
		}
	}
	_, g2 := legacyKey(t)
	lines := map[string][]seal.Suite{string(g2): {ciphermq.RSA}}
	for _, v := range readVectors(t).CipherMQ {
		lines[v.Line] = []seal.Suite{ciphermq.G3, ciphermq.G4}
		if v.Suite == ciphermq.G5 || v.Suite == ciphermq.G6 {
			lines[v.Line] = []seal.Suite{ciphermq.G5, ciphermq.G6}
		}
	}
	for line, want := range lines {
		if info, err := seal.Inspect([]byte(line), ciphermq.Suites{}); err != nil || !slices.Equal(info.Suites, want) || info.Sender != "" {
			t.Errorf("%.60s: %+v %v", line, info, err)
		}
	}
	for name, body := range map[string]string{
		"a plain text":           "hello",
		"JSON of something else": `{"message_id": "a", "amount": 7}`,
		"a short content key":    strings.Replace(readVectors(t).CipherMQ[2].Line, "WGmv9FBU", "", 1),
		"no ciphertext":          `{"message_id": "a", "suite": "hpke-x25519-aes256gcm", "epoch": "AAAA"}`,
		"an enormous epoch":      `{"message_id":"a","suite":"x","epoch":"` + strings.Repeat("A", 1<<17) + `","sealed":""}`,
	} {
		if info, err := seal.Inspect([]byte(body), ciphermq.Suites{}); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s: %+v %v", name, info, err)
		}
	}
}

// What nobody has sealed is called so, and not a broken envelope; what is broken is not.
func TestWhatIsNotSealedIsCalledSo(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	for body, plain := range map[string]bool{
		"":                                   true,
		"hello":                              true,
		`["message_id"]`:                     true,
		`{}`:                                 true,
		`{"message_id": "a", "amount": 7}`:   true,
		` {"text": "noon"}`:                  true,
		`{"message_id": "a", "suite": "x"}`:  false,
		`{"message_id": "a", "nonce": "AA"}`: false,
		`{"message_id": "a"`:                 false,
	} {
		_, err := seal.Inspect([]byte(body), ciphermq.Suites{})
		_, oerr := w.opener("bob").Open([]byte(body), seal.Expect{AnyID: true})
		for _, err := range []error{err, oerr} {
			if !errors.Is(err, seal.ErrMalformed) || errors.Is(err, seal.ErrNotSealed) != plain || plain && hintOf(err) == "" {
				t.Errorf("%q: %v", body, err)
			}
		}
	}
}

func TestErrorsCarryKindCauseAndHint(t *testing.T) {
	cause := errors.New("the cause")
	err := fmt.Errorf("open message 7: %w", &seal.Error{Kind: seal.ErrUntrusted, Detail: "the detail", Remedy: "the hint", Err: cause})
	if !errors.Is(err, seal.ErrUntrusted) || !errors.Is(err, cause) || errors.Is(err, seal.ErrChanged) || hintOf(err) != "the hint" {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
	if want := "open message 7: the sender's certificate is not trusted: the detail: the cause"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if hintOf(cause) != "" || hintOf(nil) != "" {
		t.Error("a hint of nothing")
	}
}

func TestWarnings(t *testing.T) {
	weak, _ := legacyKey(t)
	if weak.Public().Warning() == "" || newKey(t, seal.HPKEX25519).Public().Warning() != "" {
		t.Errorf("warnings %q and %q", weak.Public().Warning(), newKey(t, seal.HPKEX25519).Public().Warning())
	}
}

func TestSignerOfTomorrow(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	w.alice = w.signer("alice", "P-256", func(c *x509.Certificate) { c.NotBefore = w.now.Add(time.Hour) })
	if _, err := w.sealer([]string{"bob"}).Seal(content("x")); !errors.Is(err, seal.ErrNotYetValid) || hintOf(err) == "" {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
	broken := errors.New("no certificate file")
	s := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.Signer = func() (*seal.Signer, error) { return nil, broken } })
	if _, err := s.Seal(content("x")); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// Many goroutines meet a new epoch at once: it is opened once, and all get their message.
func TestManyMeetANewEpoch(t *testing.T) {
	w := newWorld(t, seal.HPKEHybrid, "bob")
	var asked atomic.Int32
	o := w.opener("bob", func(c *seal.OpenerConfig) {
		v := w.verifier()
		c.Verifier = verifierFunc(func(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
			asked.Add(1)
			return v.Verify(chain, at)
		})
	})
	s := w.sealer([]string{"bob"})
	var all sync.WaitGroup
	for range 16 {
		c := content("text")
		body := w.seal(s, c)
		all.Go(func() {
			if m, err := o.Open(body, seal.Expect{ID: c.ID}); err != nil || !bytes.Equal(m.Text, c.Body) {
				t.Errorf("%v %v", m, err)
			}
		})
	}
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("the verifier was asked %d times", asked.Load())
	}
}

// Keys change while messages are opened.
func TestKeysChangeUnderway(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	ring := w.ring("bob")
	o := w.opener("bob")
	s := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochMessages = 3 })
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				o.SetKeys(ring)
			}
		}
	})
	for range 60 {
		c := content("text")
		w.open(o, w.seal(s, c), c.ID)
	}
	close(done)
	all.Wait()
}

// A key is retired while an epoch for it is being opened. The message that is underway
// may open; the epoch must not stay open for others.
func TestKeyRetiredWhileItsEpochIsOpened(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	empty := ringOf(t)
	var o *seal.Opener
	o = w.opener("bob", func(c *seal.OpenerConfig) {
		v := w.verifier()
		c.Verifier = verifierFunc(func(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
			o.SetKeys(empty)
			return v.Verify(chain, at)
		})
	})
	c := content("text")
	body := w.seal(w.sealer([]string{"bob"}), c)
	w.open(o, body, c.ID)
	if err := refused(t, o, body, seal.Expect{ID: c.ID}, "after the key was retired"); !errors.Is(err, seal.ErrWrongKey) {
		t.Error(err)
	}
}
