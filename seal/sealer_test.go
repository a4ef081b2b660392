package seal_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

var signerKinds = []string{"P-256", "P-384", "Ed25519", "RSA"}

func TestSealedOpens(t *testing.T) {
	for _, suite := range provingSuites {
		for _, kind := range signerKinds {
			t.Run(fmt.Sprintf("%s/%s", suite, kind), func(t *testing.T) {
				w := newWorld(t, suite, "bob")
				w.alice = w.signer("alice", kind)
				s, o := w.sealer([]string{"bob"}), w.opener("bob")
				for i, size := range []int{0, 1, 15, 16, 17, 256, 100_000} {
					c := content(strings.Repeat("é", size)[:size])
					body := w.seal(s, c)
					if bytes.ContainsAny(body, "\r\n") || !bytes.HasPrefix(body, []byte(`{"message_id":"`+c.ID+`",`)) {
						t.Errorf("the JSON form is not one line that begins with the id: %.80s", body)
					}
					m := w.open(o, body, c.ID)
					if m.ID != c.ID || !bytes.Equal(m.Text, c.Body) || m.Sender.ID != "alice" || m.Exchange != testExchange ||
						m.RoutingKey != testRoute || m.Sequence != uint64(2*i+1) || m.SealedAt.UnixMilli() != w.now.UnixMilli() || m.Suite != suite {
						t.Errorf("opened %+v with %d bytes", m, len(m.Text))
					}
					if b := w.open(o, w.seal(s, c), c.ID); !bytes.Equal(b.Text, c.Body) || b.Digest == m.Digest {
						t.Errorf("sealed again it opened to %d bytes with digest %x", len(b.Text), b.Digest)
					}
				}
			})
		}
	}
}

func TestOneOpeningOfAnEpochServesAllItsMessages(t *testing.T) {
	w := newWorld(t, seal.HPKEHybrid, "bob")
	asked := 0
	o := w.opener("bob", func(c *seal.OpenerConfig) {
		c.Verifier = verifierFunc(func(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
			asked++
			return w.verifier().Verify(chain, at)
		})
	})
	s := w.sealer([]string{"bob"})
	for range 50 {
		c := content("text")
		w.open(o, w.seal(s, c), c.ID)
	}
	if asked != 1 {
		t.Errorf("the verifier was asked %d times", asked)
	}
}

type verifierFunc func([]*x509.Certificate, time.Time) (seal.Sender, error)

func (f verifierFunc) Verify(c []*x509.Certificate, at time.Time) (seal.Sender, error) {
	return f(c, at)
}

func TestSecondImplementation(t *testing.T) {
	for _, suite := range provingSuites {
		for _, kind := range signerKinds {
			for _, to := range [][]string{{"bob"}, {"carol", "bob"}, {"carol", "dave", "bob"}} {
				t.Run(fmt.Sprintf("%s/%s/%d", suite, kind, len(to)), func(t *testing.T) {
					w := newWorld(t, suite, "bob", "carol", "dave")
					w.alice = w.signer("alice", kind)
					s := w.sealer(to)
					c := content("the text")
					p := w.seal(s, c)
					ours := w.open(w.opener("bob"), p, c.ID)
					for _, name := range to {
						ref, err := refOpen(refParse(t, p), suite, name, rawPrivate(t, w.keys[name]))
						if err != nil || ref.text != "the text" || ref.sender != "alice" || ref.id != c.ID || ref.exchange != testExchange || ref.route != testRoute ||
							ref.seq != 1 || !bytes.Equal(ref.digest, ours.Digest[:]) || fmt.Sprint(ref.receivers) != fmt.Sprint(to) {
							t.Errorf("the second implementation reads %+v, %v", ref, err)
						}
					}
					e, m := w.honest("alice", kind, to...)
					got := w.open(w.opener("bob"), e.finish().json(m), m.id)
					if string(got.Text) != "the text" || got.Sender.ID != "alice" || len(got.Receivers) != len(to) {
						t.Errorf("of the second implementation's envelope we read %+v %q", got, got.Text)
					}
				})
			}
		}
	}
}

func TestEpochEndsWithItsNumbers(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochMessages = 3 }), w.opener("bob")
	var last *seal.Message
	for i := range uint64(10) {
		c := content("text")
		m := w.open(o, w.seal(s, c), c.ID)
		if m.Sequence != i%3+1 || m.Epoch.MaxMessages != 3 {
			t.Errorf("message %d has number %d of %d", i, m.Sequence, m.Epoch.MaxMessages)
		}
		switch {
		case i == 0:
			if m.Epoch.Previous != [32]byte{} || m.Epoch.PreviousMessages != 0 {
				t.Errorf("the first epoch follows %x with %d messages", m.Epoch.Previous, m.Epoch.PreviousMessages)
			}
		case m.Sequence == 1:
			if m.Epoch.Previous != last.Epoch.Hash || m.Epoch.PreviousMessages != 3 {
				t.Errorf("the epoch follows %x with %d messages, want %x with 3", m.Epoch.Previous, m.Epoch.PreviousMessages, last.Epoch.Hash)
			}
		case m.Epoch.Hash != last.Epoch.Hash:
			t.Error("the epoch changed too early")
		}
		last = m
	}
}

func TestEpochEndsWithItsTime(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochAge = time.Minute }), w.opener("bob")
	next := func() *seal.Message {
		c := content("text")
		return w.open(o, w.seal(s, c), c.ID)
	}
	first := next()
	w.now = w.now.Add(time.Minute)
	if m := next(); m.Epoch.Hash != first.Epoch.Hash {
		t.Error("the epoch ended within its time")
	}
	w.now = w.now.Add(2 * time.Millisecond)
	m := next()
	if m.Epoch.Hash == first.Epoch.Hash || m.Epoch.PreviousMessages != 2 {
		t.Errorf("after its time: the same epoch, or %d messages in the one before", m.Epoch.PreviousMessages)
	}
	w.now = w.now.Add(-30 * time.Second) // the clock is set back a little
	if back := next(); back.Epoch.Hash != m.Epoch.Hash || back.SealedAt.Before(m.Epoch.Created) {
		t.Errorf("with the clock set back: another epoch, or sealed at %v before %v", back.SealedAt, m.Epoch.Created)
	}
	w.now = w.now.Add(-time.Hour)
	if back := next(); back.Epoch.Hash == m.Epoch.Hash {
		t.Error("with the clock set back by an hour the epoch goes on")
	}
	s.Rotate()
	if after := next(); after.Sequence != 1 || after.Epoch.PreviousMessages != 1 {
		t.Errorf("after Rotate: number %d, after %d messages", after.Sequence, after.Epoch.PreviousMessages)
	}
}

func TestEpochEndsWithTheCertificate(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	w.alice = w.signer("alice", "P-256", func(c *x509.Certificate) { c.NotAfter = w.now.Add(time.Minute) })
	s := w.sealer([]string{"bob"})
	c := content("text")
	if m := w.open(w.opener("bob"), w.seal(s, c), c.ID); m.Epoch.NotAfter.After(w.alice.NotAfter()) {
		t.Errorf("the epoch lasts until %v, the certificate until %v", m.Epoch.NotAfter, w.alice.NotAfter())
	}
	w.now = w.now.Add(2 * time.Minute)
	if _, err := s.Seal(content("text")); !errors.Is(err, seal.ErrExpired) || !strings.Contains(hintOf(err), "renew") {
		t.Errorf("with an expired certificate: %v, hint %q", err, hintOf(err))
	}
	w.alice = w.signer("alice", "P-256", func(c *x509.Certificate) { c.NotAfter = w.now.Add(time.Minute) })
	if _, err := s.Seal(content("text")); err != nil {
		t.Errorf("with a renewed certificate: %v", err)
	}
}

func TestSealRefusesContents(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s := w.sealer([]string{"bob"})
	long := strings.Repeat("x", 256)
	for name, c := range map[string]seal.Content{
		"no id":                 {},
		"id with a space":       {ID: "a b"},
		"id too long":           {ID: long},
		"exchange too long":     {ID: "a", Exchange: long},
		"key with a line feed":  {ID: "a", RoutingKey: "a\nb"},
		"exchange is not UTF-8": {ID: "a", Exchange: "\xff"},
		"too large":             {ID: "a", Body: make([]byte, seal.MaxContentBytes+1)},
	} {
		if _, err := s.Seal(c); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	if _, err := s.Seal(seal.Content{ID: "a", Body: make([]byte, seal.MaxContentBytes+1)}); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	c := content("after all the refusals")
	if m := w.open(w.opener("bob"), w.seal(s, c), c.ID); m.Sequence != 1 {
		t.Errorf("refused contents used up %d numbers", m.Sequence-1)
	}
}

func TestLargestContent(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	c := content("")
	c.Body = bytes.Repeat([]byte("x"), seal.MaxContentBytes)
	m := w.open(w.opener("bob"), w.seal(w.sealer([]string{"bob"}), c), c.ID)
	if !bytes.Equal(m.Text, c.Body) {
		t.Error("the text changed")
	}
}

// A sealer does not pad, and what looks like padding in a text is text.
func TestTextsKeepTheirEnds(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	o, s := w.opener("bob"), w.sealer([]string{"bob"})
	for _, text := range []string{"", "x", strings.Repeat("\x00", 300), "ends in\x01", "ends in\x01\x00\x00", strings.Repeat("x", 1000)} {
		c := content(text)
		if m := w.open(o, w.seal(s, c), c.ID); string(m.Text) != text {
			t.Errorf("%q became %q", text, m.Text)
		}
	}
}

func TestNewSealerRefuses(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob", "carol")
	hybrid := newKey(t, seal.HPKEHybrid).Public()
	box := newKey(t, ciphermq.G5).Public()
	bob, carol := w.keys["bob"].Public(), w.keys["carol"].Public()
	signer := func() (*seal.Signer, error) { return w.alice, nil }
	many := make([]seal.Receiver, seal.MaxReceivers+1)
	for i := range many {
		many[i] = seal.Receiver{Name: fmt.Sprint(i), Key: newKey(t, seal.HPKEX25519).Public()}
	}
	for name, cfg := range map[string]seal.SealerConfig{
		"no receiver":           {Signer: signer},
		"too many receivers":    {Signer: signer, Receivers: many},
		"no key":                {Signer: signer, Receivers: []seal.Receiver{{Name: "bob"}}},
		"no name":               {Signer: signer, Receivers: []seal.Receiver{{Key: bob}}},
		"no signer":             {Receivers: []seal.Receiver{{"bob", bob}}},
		"two suites":            {Signer: signer, Receivers: []seal.Receiver{{"bob", bob}, {"carol", hybrid}}},
		"one name twice":        {Signer: signer, Receivers: []seal.Receiver{{"bob", bob}, {"bob", carol}}},
		"one key twice":         {Signer: signer, Receivers: []seal.Receiver{{"bob", bob}, {"carol", bob}}},
		"CipherMQ for two":      {Signer: signer, Receivers: []seal.Receiver{{"bob", box}, {"carol", newKey(t, ciphermq.G5).Public()}}},
		"too many in an epoch":  {Signer: signer, Receivers: []seal.Receiver{{"bob", bob}}, EpochMessages: seal.MaxEpochMessages + 1},
		"too long an epoch":     {Signer: signer, Receivers: []seal.Receiver{{"bob", bob}}, EpochAge: seal.MaxEpochAge + 1},
		"an epoch of no length": {Signer: signer, Receivers: []seal.Receiver{{"bob", bob}}, EpochAge: -1},
	} {
		if _, err := seal.NewSealer(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := w.sealer([]string{"bob"})
	if err := s.SetReceivers([]seal.Receiver{{"bob", box}}); err == nil {
		t.Error("a sealer that proves its sender became one that does not")
	}
	if err := s.SetReceivers(nil); err == nil {
		t.Error("no receivers were accepted")
	}
	c := content("still sealing")
	w.open(w.opener("bob"), w.seal(s, c), c.ID)
}

func TestMostReceivers(t *testing.T) {
	w := newWorld(t, seal.HPKEHybrid)
	var names []string
	for i := range seal.MaxReceivers {
		name := fmt.Sprintf("%s-%02d", strings.Repeat("r", 252), i)
		names = append(names, name)
		w.keys[name] = newKey(t, seal.HPKEHybrid)
	}
	s := w.sealer(names)
	c := content("for everyone")
	body := w.seal(s, c)
	for _, i := range []int{0, seal.MaxReceivers / 2, seal.MaxReceivers - 1} {
		if m := w.open(w.opener(names[i]), body, c.ID); string(m.Text) != "for everyone" || len(m.Receivers) != seal.MaxReceivers {
			t.Errorf("receiver %d: %+v", i, m)
		}
	}
}

func TestReceiversChange(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob", "carol")
	s := w.sealer([]string{"bob"})
	c := content("text")
	w.open(w.opener("bob"), w.seal(s, c), c.ID)
	if err := s.SetReceivers(w.receivers("carol")); err != nil {
		t.Fatal(err)
	}
	body := w.seal(s, c)
	w.open(w.opener("carol"), body, c.ID)
	if _, err := w.opener("bob").Open(body, seal.Expect{ID: c.ID}); !errors.Is(err, seal.ErrReceiver) {
		t.Errorf("a removed receiver: %v", err)
	}
	w.keys["carol"] = newKey(t, seal.HPKEHybrid)
	if err := s.SetReceivers(w.receivers("carol")); err != nil {
		t.Fatal(err)
	}
	if m := w.open(w.opener("carol"), w.seal(s, c), c.ID); m.Suite != seal.HPKEHybrid || s.Suite() != seal.HPKEHybrid {
		t.Errorf("after the receiver has moved on: suite %s", m.Suite)
	}
}

func TestExtensions(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	list := []seal.Extension{{Type: seal.ExtCheckpoint, Value: []byte("log 7")}, {Type: 900, Value: nil}}
	s := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.Extensions = func() []seal.Extension { return list } })
	c := content("text")
	m := w.open(w.opener("bob"), w.seal(s, c), c.ID)
	if v, ok := m.Extension(seal.ExtCheckpoint); !ok || string(v) != "log 7" {
		t.Errorf("checkpoint %q, %t", v, ok)
	}
	if v, ok := m.Extension(900); !ok || len(v) != 0 {
		t.Errorf("empty extension %q, %t", v, ok)
	}
	if _, ok := m.Extension(901); ok {
		t.Error("an extension that is not there")
	}
	for name, bad := range map[string][]seal.Extension{
		"twice":        {{Type: 1}, {Type: 1}},
		"out of order": {{Type: 2}, {Type: 1}},
		"too long":     {{Type: 1, Value: make([]byte, seal.MaxExtensions)}},
	} {
		list = bad
		s.Rotate()
		if _, err := s.Seal(c); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

func TestNumbersAreTakenOnceByAll(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochMessages = 37 }), w.opener("bob", func(c *seal.OpenerConfig) { c.MaxEpochs = 3 })
	seen := newNumbers(t)
	const each, workers = 100, 8
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range each {
				c := content("text")
				body, err := s.Seal(c)
				if err != nil {
					t.Error(err)
					return
				}
				m, err := o.Open(body, seal.Expect{ID: c.ID})
				if err != nil {
					t.Error(err)
					return
				}
				seen.add(m)
			}
		})
	}
	all.Wait()
	if n := seen.check(); n != each*workers {
		t.Errorf("%d numbers for %d messages", n, each*workers)
	}
}

func TestRotateWhileOthersSeal(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o := w.sealer([]string{"bob"}), w.opener("bob")
	seen := newNumbers(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 50 {
				if i%10 == 0 {
					s.Rotate()
				}
				c := content("text")
				body, err := s.Seal(c)
				if err != nil {
					t.Error(err)
					return
				}
				m, err := o.Open(body, seal.Expect{ID: c.ID})
				if err != nil {
					t.Error(err)
					return
				}
				seen.add(m)
			}
		})
	}
	all.Wait()
	seen.check()
}

func TestSecretsNeverPrint(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o, ring := w.sealer([]string{"bob"}), w.opener("bob"), w.ring("bob")
	c := content("a very secret text")
	m := w.open(o, w.seal(s, c), c.ID)
	var log bytes.Buffer
	for name, v := range map[string]any{"sealer": s, "opener": o, "ring": ring, "key": w.keys["bob"], "signer": w.alice, "message": m, "value": *m} {
		slog.New(slog.NewTextHandler(&log, nil)).Info("it", name, v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("it", name, v)
		fmt.Fprintf(&log, "%v %+v %#v %s %d %x %q\n", v, v, v, v, v, v, v)
	}
	raw := rawPrivate(t, w.keys["bob"])
	for _, secret := range []string{"very secret", fmt.Sprintf("%x", "very secret"), fmt.Sprintf("%x", raw), fmt.Sprint(raw)[1:20], "118 101 114 121"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is in %s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), c.ID) || !strings.Contains(log.String(), "[redacted]") {
		t.Errorf("a message should show its id, and secrets that they are not shown: %s", log.String())
	}
}

// numbers are the sequence numbers of opened messages.
type numbers struct {
	t      *testing.T
	mu     sync.Mutex
	epochs map[*seal.Epoch]map[uint64]bool
}

func newNumbers(t *testing.T) *numbers {
	return &numbers{t: t, epochs: make(map[*seal.Epoch]map[uint64]bool)}
}

func (n *numbers) add(m *seal.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for e, seen := range n.epochs {
		if e.Hash == m.Epoch.Hash {
			if seen[m.Sequence] {
				n.t.Errorf("number %d of epoch %x was given twice", m.Sequence, e.Hash)
			}
			seen[m.Sequence] = true
			return
		}
	}
	n.epochs[m.Epoch] = map[uint64]bool{m.Sequence: true}
}

// check demands that no number is missing, in no epoch and in none that another epoch
// names, and counts the numbers.
func (n *numbers) check() (count int) {
	lengths := make(map[[32]byte]int)
	for e, seen := range n.epochs {
		lengths[e.Hash] = len(seen)
		count += len(seen)
		for i := range uint64(len(seen)) {
			if !seen[i+1] {
				n.t.Errorf("number %d of epoch %x is missing", i+1, e.Hash)
			}
		}
	}
	for e := range n.epochs {
		if got := lengths[e.Previous]; got != int(e.PreviousMessages) {
			n.t.Errorf("epoch %x has %d messages, and the next says %d", e.Previous, got, e.PreviousMessages)
		}
	}
	return count
}
