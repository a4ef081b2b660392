package seal_test

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

const secretText = "the result is negative"

// hintOf is what to do about an error, or "".
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// refused fails the test unless body is refused with an error that an operator can use
// and that gives nothing away.
func refused(t *testing.T, o *seal.Opener, body []byte, want seal.Expect, what string) error {
	t.Helper()
	m, err := o.Open(body, want)
	if err == nil || m != nil {
		t.Errorf("%s: opened as %v", what, m)
		return nil
	}
	var e *seal.Error
	if !errors.As(err, &e) || e.Kind == nil || err.Error() == "" {
		t.Errorf("%s: the error has no kind: %v", what, err)
	}
	if s := err.Error() + hintOf(err); strings.Contains(s, "negative") || strings.ContainsAny(s, "\n\x00") {
		t.Errorf("%s: the error gives something away: %q", what, s)
	}
	return err
}

// forms are the envelopes of one content for one and two receivers.
func forms(t *testing.T, w *world, c seal.Content) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for _, to := range [][]string{{"bob"}, {"bob", "carol"}} {
		all[fmt.Sprintf("JSON for %d", len(to))] = w.seal(w.sealer(to), c)
	}
	return all
}

func TestEveryFlippedByte(t *testing.T) {
	for _, suite := range provingSuites {
		w := newWorld(t, suite, "bob", "carol")
		w.alice = w.signer("alice", "Ed25519") // of all the fastest to check
		c := content(secretText)
		for form, body := range forms(t, w, c) {
			t.Run(fmt.Sprintf("%s/%s", suite, form), func(t *testing.T) {
				o := w.opener("bob", w.verifyOnce())
				w.open(o, body, c.ID)
				flip := func(what string, p []byte, again func(p []byte) []byte) {
					for i := range p {
						for _, bit := range []byte{0x01, 0x80} {
							changed := bytes.Clone(p)
							changed[i] ^= bit
							refused(t, o, again(changed), seal.Expect{AnyID: true}, fmt.Sprintf("byte %d of the %s ^ %#x", i, what, bit))
						}
					}
				}
				v := refParse(t, body)
				flip("epoch", v.epoch, func(p []byte) []byte { return refJSON(v.id, v.suite, p, v.sealed) })
				flip("message", v.sealed, func(p []byte) []byte { return refJSON(v.id, v.suite, v.epoch, p) })
				if suite == seal.HPKEX25519 { // with the other suite it is the same, but longer
					flip("line", body, func(p []byte) []byte { return p })
				}
				w.open(o, body, c.ID)
			})
		}
	}
}

// verifyOnce asks the world's verifier once for each certificate, to save time.
func (w *world) verifyOnce() func(*seal.OpenerConfig) {
	type answer struct {
		sender seal.Sender
		err    error
	}
	known := make(map[string]answer)
	return func(c *seal.OpenerConfig) {
		c.Verifier = verifierFunc(func(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
			a, ok := known[string(chain[0].Raw)]
			if !ok {
				a.sender, a.err = w.verifier().Verify(chain, at)
				known[string(chain[0].Raw)] = a
			}
			return a.sender, a.err
		})
	}
}

func TestEveryCut(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob", "carol")
	c := content(secretText)
	for form, body := range forms(t, w, c) {
		o := w.opener("bob")
		for i := range body {
			refused(t, o, body[:i], seal.Expect{AnyID: true}, fmt.Sprintf("%s cut at %d", form, i))
		}
		refused(t, o, append(bytes.Clone(body), 'x'), seal.Expect{AnyID: true}, form+" with something behind")
	}
}

// fields takes an envelope apart, down to the single fields.
func fields(v refParsed, enc int) (names []string, values [][]byte) {
	p := v.epoch
	cut := func(name string, n int) []byte {
		names, values = append(names, name), append(values, p[:n:n])
		v := p[:n]
		p = p[n:]
		return v
	}
	prefixed := func(name string) []byte {
		n := int(binary.BigEndian.Uint16(p))
		return cut(name, 2+n)[2:]
	}
	cut("header length", 2)
	cut("version", 1)
	cut("suite", 1)
	cut("scheme", 2)
	cut("created", 8)
	cut("not after", 8)
	cut("most messages", 8)
	cut("previous", 32)
	cut("previous count", 8)
	cut("chain hash", 32)
	prefixed("sender")
	n := int(cut("receivers", 1)[0])
	for i := range n {
		prefixed(fmt.Sprintf("receiver %d", i))
		cut(fmt.Sprintf("key id %d", i), 16)
		cut(fmt.Sprintf("encapsulation %d", i), enc)
	}
	prefixed("extensions")
	for i := range n {
		if n > 1 {
			cut(fmt.Sprintf("masked secret %d", i), 32)
		}
	}
	cut("commitment", 32)
	prefixed("header signature")
	prefixed("chain")
	p = []byte(v.id)
	cut("id", len(p))
	p = v.sealed
	cut("number", 8)
	cut("time", 8)
	cut("salt", 16)
	prefixed("exchange")
	prefixed("routing key")
	prefixed("message signature")
	cut("ciphertext", len(p))
	return names, values
}

// joined makes an envelope of fields.
func joined(names []string, values [][]byte, suite string) []byte {
	i := slices.Index(names, "id")
	return refJSON(string(values[i]), suite, bytes.Join(values[:i], nil), bytes.Join(values[i+1:], nil))
}

// Two valid envelopes, every field of one put into the other: alone, together with all
// before it, and together with the rest of its part.
func TestEveryFieldSwapped(t *testing.T) {
	for _, suite := range provingSuites {
		for _, to := range [][]string{{"bob"}, {"bob", "carol"}} {
			w := newWorld(t, suite, "bob", "carol")
			same := w.sealer(to, func(c *seal.SealerConfig) {
				c.Extensions = func() []seal.Extension { return []seal.Extension{{Type: 5}} }
			})
			other := w.sealer(to, func(c *seal.SealerConfig) {
				c.EpochMessages, c.EpochAge = 99, time.Minute
				mallory := w.signer("mallory", "Ed25519")
				c.Signer = func() (*seal.Signer, error) { return mallory, nil }
			})
			envelope := func(s *seal.Sealer, id, exchange, route, text string) []byte {
				w.now = w.now.Add(time.Millisecond)
				return w.seal(s, seal.Content{ID: id, Exchange: exchange, RoutingKey: route, Body: []byte(text)})
			}
			a := envelope(same, "id-a", "exchange-a", "route-a", secretText)
			for from, b := range map[string][]byte{
				"the same epoch": envelope(same, "id-b", "exchange-b", "route-b", "another text"),
				"another sender": envelope(other, "id-c", "exchange-c", "route-c", "another text"),
			} {
				o := w.opener("bob")
				names, inA := fields(refParse(t, a), refSuites[suite].enc)
				_, inB := fields(refParse(t, b), refSuites[suite].enc)
				swapped := 0
				for i, name := range names {
					one := append([][]byte{}, inA...)
					one[i] = inB[i]
					upTo := append(append([][]byte{}, inB[:i+1]...), inA[i+1:]...)
					for how, p := range map[string][]byte{"alone": joined(names, one, string(suite)), "and all before": joined(names, upTo, string(suite))} {
						if bytes.Equal(p, a) || bytes.Equal(p, b) {
							continue
						}
						swapped++
						refused(t, o, p, seal.Expect{AnyID: true}, fmt.Sprintf("%s, %d receivers, %s %s of %s", suite, len(to), name, how, from))
					}
				}
				if swapped < 10 {
					t.Errorf("only %d swaps were tried", swapped)
				}
				w.open(o, a, "id-a")
			}
		}
	}
}

func TestJSONMembersSwapped(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	s, o := w.sealer([]string{"bob"}), w.opener("bob")
	c1, c2 := content("one"), content("two")
	b1, b2 := w.seal(s, c1), w.seal(s, c2)
	refused(t, o, bytes.Replace(b1, []byte(c1.ID), []byte(c2.ID), 1), seal.Expect{ID: c2.ID}, "the id of another")
	cut := func(p []byte, from string) []byte { return p[bytes.Index(p, []byte(from)):] }
	refused(t, o, append(bytes.Clone(b1[:len(b1)-len(cut(b1, `"sealed"`))]), cut(b2, `"sealed"`)...), seal.Expect{ID: c1.ID}, "the text of another")
	for _, suite := range append(seal.Suites(ciphermq.Suites{}), "", "rot13") {
		if suite == seal.HPKEX25519 {
			continue
		}
		p := bytes.Replace(b1, []byte(seal.HPKEX25519), []byte(suite), 1)
		if err := refused(t, o, p, seal.Expect{ID: c1.ID}, "the suite "+string(suite)); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("suite %q: %v", suite, err)
		}
	}
}

// A receiver knows the epoch's secret when there are several. Without the sender's key
// it must not be able to speak as the sender to another.
func TestCoReceiverForgery(t *testing.T) {
	for _, suite := range provingSuites {
		w := newWorld(t, suite, "bob", "carol")
		o := w.opener("bob")
		e, m := w.honest("alice", "P-256", "bob", "carol")
		e.finish()
		honest := e.json(m)
		w.open(o, honest, m.id)
		_, carols := w.certificate("carol", "P-256")
		genuine := refSign(e.key, m.label, make([]byte, 32))

		forged := *m
		forged.inner, forged.seq, forged.id = []byte("a forged text\x01"), 2, "forged"
		for name, change := range map[string]func(f *refMessage){
			"unsigned":                    func(f *refMessage) { f.key = nil },
			"signed by the co-receiver":   func(f *refMessage) { f.key = carols },
			"with a signature of another": func(f *refMessage) { f.key, f.signature = nil, genuine },
			"with the header's signature": func(f *refMessage) { f.key, f.signature = nil, e.signature },
			"signed as something else":    func(f *refMessage) { f.label = "SealMQ v1 epoch header" },
			"signed without a label":      func(f *refMessage) { f.label = "" },
		} {
			f := forged
			change(&f)
			if err := refused(t, o, e.json(&f), seal.Expect{ID: "forged"}, name); !errors.Is(err, seal.ErrSignature) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// The co-receiver opens an epoch of its own and says it is alice's.
		for name, change := range map[string]func(e *refEpoch){
			"signed with its own key":           func(e *refEpoch) { e.key = carols },
			"signed and certified with its own": func(e *refEpoch) { chain, key := w.certificate("carol", "P-256"); e.key, e.chain = key, lp(chain[0]) },
			"with its certificate and alice's as well": func(e *refEpoch) {
				chain, key := w.certificate("carol", "P-256")
				e.key, e.chain = key, cat(lp(chain[0]), e.chain)
			},
		} {
			f, m := w.honest("alice", "P-256", "bob")
			change(f)
			if err := refused(t, o, f.finish().json(m), seal.Expect{ID: m.id}, name); !errors.Is(err, seal.ErrSignature) && !errors.Is(err, seal.ErrSender) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A sender who takes a foreign epoch and signs it must not pass for the author
// of what was sealed in it.
func TestForeignEncapsulationUnderAnotherName(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	e, m := w.honest("alice", "P-256", "bob")
	ciphertext := e.finish().sealed(m)
	stolen, _ := w.honest("mallory", "P-256", "bob")
	stolen.receivers[0].enc = e.receivers[0].enc
	p := refJSON(m.id, e.suiteName, stolen.finish().part(), ciphertext)
	if err := refused(t, w.opener("bob"), p, seal.Expect{ID: m.id}, "stolen"); !errors.Is(err, seal.ErrChanged) {
		t.Error(err)
	}
	stolen.commitment = e.commitment
	p = refJSON(m.id, e.suiteName, stolen.finish().part(), ciphertext)
	if err := refused(t, w.opener("bob"), p, seal.Expect{ID: m.id}, "stolen with its commitment"); !errors.Is(err, seal.ErrChanged) {
		t.Error(err)
	}
}

// A sender must not be able to show its receivers different texts in one envelope.
func TestSenderCannotGiveReceiversDifferentSecrets(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob", "carol")
	e, m := w.honest("alice", "P-256", "bob", "carol")
	e.masks = func(i int, mask []byte) []byte {
		if i == 1 {
			mask[0] ^= 1
		}
		return mask
	}
	body := e.finish().json(m)
	w.open(w.opener("bob"), body, m.id)
	if err := refused(t, w.opener("carol"), body, seal.Expect{ID: m.id}, "another secret"); !errors.Is(err, seal.ErrChanged) {
		t.Error(err)
	}
}

// Everything that a sender with a valid certificate could do wrong, on purpose or not.
func TestDishonestSender(t *testing.T) {
	type change func(w *world, e *refEpoch, m *refMessage)
	minute := uint64(60_000)
	for name, tc := range map[string]struct {
		change change
		want   error
	}{
		"nothing":                        {func(*world, *refEpoch, *refMessage) {}, nil},
		"another version":                {func(_ *world, e *refEpoch, _ *refMessage) { e.version = 2 }, seal.ErrVersion},
		"an unknown suite":               {func(_ *world, e *refEpoch, _ *refMessage) { e.suite = 3 }, seal.ErrSuite},
		"suite zero":                     {func(_ *world, e *refEpoch, _ *refMessage) { e.suite = 0 }, seal.ErrSuite},
		"another signature scheme":       {func(_ *world, e *refEpoch, _ *refMessage) { e.scheme = 0x0807 }, seal.ErrSignature},
		"a number of zero":               {func(_ *world, _ *refEpoch, m *refMessage) { m.seq = 0 }, seal.ErrEpoch},
		"a number over the epoch's":      {func(_ *world, _ *refEpoch, m *refMessage) { m.seq = 101 }, seal.ErrEpoch},
		"an epoch for no messages":       {func(_ *world, e *refEpoch, _ *refMessage) { e.maxMessages = 0 }, seal.ErrEpoch},
		"an epoch for too many messages": {func(_ *world, e *refEpoch, _ *refMessage) { e.maxMessages = seal.MaxEpochMessages + 1 }, seal.ErrEpoch},
		"an epoch that lasts too long":   {func(_ *world, e *refEpoch, _ *refMessage) { e.notAfter = e.created + 24*60*minute + 1 }, seal.ErrEpoch},
		"an epoch that ends first":       {func(_ *world, e *refEpoch, _ *refMessage) { e.notAfter = e.created - 1 }, seal.ErrEpoch},
		"a time after all times":         {func(_ *world, e *refEpoch, _ *refMessage) { e.created, e.notAfter = 1<<63, 1<<63 }, seal.ErrMalformed},
		"a message before its epoch":     {func(_ *world, _ *refEpoch, m *refMessage) { m.time-- }, seal.ErrTime},
		"a message after its epoch":      {func(_ *world, e *refEpoch, m *refMessage) { m.time = e.notAfter + 1 }, seal.ErrTime},
		"a message from the future": {func(_ *world, e *refEpoch, m *refMessage) {
			e.created += 6 * minute
			e.notAfter, m.time = e.created, e.created
		}, seal.ErrTime},
		"a clock a little ahead": {func(_ *world, e *refEpoch, m *refMessage) {
			e.created += 4 * minute
			e.notAfter, m.time = e.created, e.created
		}, nil},
		"messages of no epoch before it":    {func(_ *world, e *refEpoch, _ *refMessage) { e.previousCount = 1 }, seal.ErrMalformed},
		"too many in the epoch before":      {func(_ *world, e *refEpoch, _ *refMessage) { e.previous[0], e.previousCount = 1, 1<<32+1 }, seal.ErrEpoch},
		"the name of another":               {func(_ *world, e *refEpoch, _ *refMessage) { e.sender = "bob" }, seal.ErrSender},
		"no name":                           {func(_ *world, e *refEpoch, _ *refMessage) { e.sender = "" }, seal.ErrMalformed},
		"a name with a line feed":           {func(_ *world, e *refEpoch, _ *refMessage) { e.sender = "alice\n" }, seal.ErrMalformed},
		"a name that is too long":           {func(_ *world, e *refEpoch, _ *refMessage) { e.sender = strings.Repeat("x", 256) }, seal.ErrMalformed},
		"no receivers":                      {func(_ *world, e *refEpoch, _ *refMessage) { e.receivers = nil }, seal.ErrMalformed},
		"a receiver twice":                  {func(_ *world, e *refEpoch, _ *refMessage) { e.receivers = append(e.receivers, e.receivers[0]) }, seal.ErrMalformed},
		"another receiver's name":           {func(_ *world, e *refEpoch, _ *refMessage) { e.receivers[0].name = "carol" }, seal.ErrReceiver},
		"another key of the receiver":       {func(_ *world, e *refEpoch, _ *refMessage) { e.receivers[0].keyID = make([]byte, 16) }, seal.ErrWrongKey},
		"an encapsulation of low order":     {func(_ *world, e *refEpoch, _ *refMessage) { e.receivers[0].enc = make([]byte, 32) }, seal.ErrChanged},
		"another encapsulation":             {func(_ *world, e *refEpoch, _ *refMessage) { e.receivers[0].enc = bytes.Repeat([]byte{9}, 32) }, seal.ErrChanged},
		"another commitment":                {func(_ *world, e *refEpoch, _ *refMessage) { e.commitment = make([]byte, 32) }, seal.ErrChanged},
		"extensions that are cut":           {func(_ *world, e *refEpoch, _ *refMessage) { e.extensions = []byte{0, 1, 0, 2, 3} }, seal.ErrMalformed},
		"extensions out of order":           {func(_ *world, e *refEpoch, _ *refMessage) { e.extensions = []byte{0, 2, 0, 0, 0, 1, 0, 0} }, seal.ErrMalformed},
		"an extension twice":                {func(_ *world, e *refEpoch, _ *refMessage) { e.extensions = []byte{0, 1, 0, 0, 0, 1, 0, 0} }, seal.ErrMalformed},
		"extensions that are too long":      {func(_ *world, e *refEpoch, _ *refMessage) { e.extensions = cat(u16(1), u16(4096), make([]byte, 4096)) }, seal.ErrMalformed},
		"an extension that nobody knows":    {func(_ *world, e *refEpoch, _ *refMessage) { e.extensions = []byte{0x77, 0x77, 0, 1, 'x'} }, nil},
		"no padding byte":                   {func(_ *world, _ *refEpoch, m *refMessage) { m.inner = []byte("text") }, seal.ErrMalformed},
		"nothing but zeros":                 {func(_ *world, _ *refEpoch, m *refMessage) { m.inner = make([]byte, 20) }, seal.ErrMalformed},
		"not even a padding byte":           {func(_ *world, _ *refEpoch, m *refMessage) { m.inner = nil }, seal.ErrMalformed},
		"a signature where none belongs":    {func(_ *world, e *refEpoch, m *refMessage) { m.key = e.key }, seal.ErrMalformed},
		"an id with a space":                {func(_ *world, _ *refEpoch, m *refMessage) { m.id = "a b" }, seal.ErrMalformed},
		"an empty id":                       {func(_ *world, _ *refEpoch, m *refMessage) { m.id = "" }, seal.ErrMalformed},
		"an exchange with a line feed":      {func(_ *world, _ *refEpoch, m *refMessage) { m.exchange = "a\nb" }, seal.ErrMalformed},
		"a routing key that is too long":    {func(_ *world, _ *refEpoch, m *refMessage) { m.route = strings.Repeat("x", 256) }, seal.ErrMalformed},
		"no exchange and no key":            {func(_ *world, _ *refEpoch, m *refMessage) { m.exchange, m.route = "", "" }, nil},
		"a header signed as a message":      {func(_ *world, e *refEpoch, _ *refMessage) { e.label = "SealMQ v1 message" }, seal.ErrSignature},
		"the certificates of another order": {func(w *world, e *refEpoch, _ *refMessage) { e.chain = cat(lp(w.ca.Root().Raw), e.chain) }, seal.ErrUntrusted},
		"too many certificates":             {func(_ *world, e *refEpoch, _ *refMessage) { e.chain = bytes.Repeat(e.chain, 5) }, seal.ErrMalformed},
		"a certificate that is none":        {func(_ *world, e *refEpoch, _ *refMessage) { e.chain = lp("nonsense") }, seal.ErrMalformed},
		"a chain that is cut":               {func(_ *world, e *refEpoch, _ *refMessage) { e.chain = e.chain[:len(e.chain)-1] }, seal.ErrMalformed},
		"certificates that are not named":   {func(_ *world, e *refEpoch, _ *refMessage) { e.chainSum = make([]byte, 32) }, seal.ErrSignature},
		"no certificates":                   {func(_ *world, e *refEpoch, _ *refMessage) { e.noChain = true }, seal.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, seal.HPKEX25519, "bob", "carol")
			e, m := w.honest("alice", "P-256", "bob")
			tc.change(w, e, m)
			if len(e.receivers) == 0 {
				e.secret = make([]byte, 32)
			}
			o := w.opener("bob")
			if body := e.finish().json(m); tc.want == nil {
				w.open(o, body, m.id)
			} else if err := refused(t, o, body, seal.Expect{AnyID: true}, name); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestDowngrade(t *testing.T) {
	w := newWorld(t, seal.HPKEHybrid, "bob")
	weaker := newKey(t, seal.HPKEX25519)
	box := newKey(t, ciphermq.G5)
	ring, err := seal.NewKeyring(w.keys["bob"], weaker, box)
	if err != nil {
		t.Fatal(err)
	}
	withAll := func(c *seal.OpenerConfig) { c.Keys = ring }
	sealFor := func(key *seal.PublicKey) (string, []byte) {
		c := content(secretText)
		s := w.sealer([]string{"bob"}, func(cfg *seal.SealerConfig) { cfg.Receivers = []seal.Receiver{{Name: "bob", Key: key}} })
		return c.ID, w.seal(s, c)
	}
	id, body := sealFor(weaker.Public())
	w.open(w.opener("bob", withAll), body, id)
	if err := refused(t, w.opener("bob", withAll, func(c *seal.OpenerConfig) { c.Suites = []seal.Suite{seal.HPKEHybrid} }), body, seal.Expect{ID: id}, "a weaker suite"); !errors.Is(err, seal.ErrSuite) {
		t.Error(err)
	}
	id, body = sealFor(box.Public())
	if err := refused(t, w.opener("bob", withAll), body, seal.Expect{ID: id}, "a suite that proves nothing"); !errors.Is(err, seal.ErrSuite) {
		t.Error(err)
	}
	m := w.open(w.opener("bob", withAll, func(c *seal.OpenerConfig) { c.Suites = []seal.Suite{seal.HPKEHybrid, ciphermq.G5} }), body, id)
	if m.Proven() || string(m.Text) != secretText {
		t.Errorf("a suite that was allowed: %+v", m)
	}
	// The key of one suite under the name of another.
	e, msg := w.honest("alice", "P-256", "bob")
	e.receivers[0].keyID = refPublicSum(string(seal.HPKEX25519), weaker.Public().Bytes())[:16]
	if err := refused(t, w.opener("bob", withAll), e.finish().json(msg), seal.Expect{ID: msg.id}, "a key of another suite"); !errors.Is(err, seal.ErrWrongKey) {
		t.Error(err)
	}
}
