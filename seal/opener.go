package seal

import (
	"cmp"
	"container/list"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of OpenerConfig.
const (
	DefaultMaxEpochs = 1024
	DefaultMaxSkew   = 5 * time.Minute
	DefaultRecheck   = time.Second
)

// OpenerConfig is what an Opener works with. Name, Keys and, for the suites that say who
// sent a message, Verifier must be set.
type OpenerConfig struct {
	// Name is the receiver's own name, as senders know it.
	Name string
	// Keys are tried by what an envelope says it was sealed for.
	Keys *Keyring
	// Verifier decides whose messages are opened.
	Verifier Verifier
	// Suites are what is accepted (default: all suites that say who sent a message).
	// A receiver that has moved on to a better suite names it alone, so that nobody can
	// come with a worse one. With a legacy suite anybody can be the sender.
	Suites []Suite
	// Legacy are the legacy suites that are known; Suites says which of them are accepted.
	Legacy []Legacy
	// Chain finds the certificates that a sender left out, by their SHA-256 as it
	// is in the epoch's header: for each certificate, leaf first, two bytes of
	// length and the DER. Nil, or a nil result, refuses such envelopes, and so does
	// ErrNoCertificates; any other error makes it ErrUndecided. It must be safe for
	// concurrent use, and should not wait: it is called for each envelope.
	Chain func(sum [32]byte) ([]byte, error)
	// MaxEpochs bounds the opened epochs that are kept in memory, about 16 KiB each
	// (default DefaultMaxEpochs). One that was dropped is opened again when needed.
	MaxEpochs int
	// MaxSkew is how far a sender's clock may be ahead (default DefaultMaxSkew).
	MaxSkew time.Duration
	// Recheck is how long a Verifier's answer is relied upon (default DefaultRecheck).
	Recheck time.Duration
	// Now is the time of day (default time.Now).
	Now func() time.Time
}

// Expect is what the caller knows of a message.
type Expect struct {
	// ID is the id that the message was delivered under. It must be set.
	ID string
	// AnyID takes any id in place of ID, for an envelope that nobody delivered, as one
	// from a file.
	AnyID bool
	// Exchange and RoutingKey are where the message must have been sent; empty is
	// anywhere.
	Exchange, RoutingKey string
}

// Opener opens messages for one receiver. It is safe for concurrent use and prints as
// "[redacted]".
//
// It does not remember what it has opened: the same envelope opens again. Package receive
// tells repeated messages from new ones.
type Opener struct {
	redacted
	cfg     OpenerConfig
	keys    atomic.Pointer[keySet]
	buffers sync.Pool // of *buffer
}

// keySet is a Keyring in the order in which an Opener needs it, with the epochs that were opened
// with it: a retired key's epochs must not stay open.
type keySet struct {
	epochs  epochCache
	byID    map[keyID]*PrivateKey
	retired map[string]RetiredKey // by the hexadecimal key id
	legacy  []*PrivateKey
}

// NewOpener prepares an Opener.
func NewOpener(cfg OpenerConfig) (*Opener, error) {
	if err := checkText("receiver's name", cfg.Name); err != nil {
		return nil, err
	}
	if cfg.Keys == nil {
		return nil, errors.New("an opener needs keys")
	}
	if len(cfg.Suites) == 0 {
		cfg.Suites = []Suite{HPKEHybrid, HPKEX25519}
	}
	for _, s := range cfg.Suites {
		if !slices.Contains(Suites(cfg.Legacy...), s) {
			return nil, errUnknownSuite(s, cfg.Legacy)
		}
		if s.Proves() && cfg.Verifier == nil {
			return nil, errors.New("an opener needs a Verifier, which says whom to believe")
		}
	}
	cfg.MaxEpochs = cmp.Or(max(cfg.MaxEpochs, 0), DefaultMaxEpochs)
	cfg.MaxSkew = cmp.Or(max(cfg.MaxSkew, 0), DefaultMaxSkew)
	cfg.Recheck = cmp.Or(max(cfg.Recheck, 0), DefaultRecheck)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	o := &Opener{cfg: cfg}
	o.buffers.New = func() any { return new(buffer) }
	o.SetKeys(cfg.Keys)
	return o, nil
}

// SetKeys takes the keys of another ring, or of a ring that was changed. Later changes of
// the ring have no effect.
func (o *Opener) SetKeys(r *Keyring) {
	set := &keySet{epochs: epochCache{max: o.cfg.MaxEpochs, byPart: make(map[string]*list.Element)},
		byID: make(map[keyID]*PrivateKey), retired: make(map[string]RetiredKey)}
	for _, k := range r.live {
		if k.suite.Proves() {
			set.byID[k.Public().id()] = k
		} else {
			set.legacy = append(set.legacy, k)
		}
	}
	for _, k := range r.retired {
		set.retired[k.Fingerprint[len("sha256:"):][:2*len(keyID{})]] = k
	}
	o.keys.Store(set)
}

// Open opens an envelope in any form and checks everything that its suite makes
// checkable. The error is an *Error, or one that wraps it.
func (o *Opener) Open(body []byte, want Expect) (*Message, error) {
	if want.ID == "" && !want.AnyID {
		return nil, refuse(ErrID, "", "nobody says which message was expected")
	}
	p, err := split(body)
	if err == errNoSuite {
		return o.openLegacy(body, want)
	}
	if err != nil {
		return nil, err
	}
	if !want.AnyID && string(p.id) != want.ID {
		return nil, errOtherID(string(p.id), want)
	}
	b := o.buffers.Get().(*buffer)
	defer func() {
		if cap(b.block) <= maxKeptBuffer {
			o.buffers.Put(b)
		}
	}()
	if b.block, err = decode(b.block[:0], "sealed", p.sealed); err != nil {
		return nil, err
	}
	m, err := parseMessage(p.id, b.block)
	if err != nil {
		return nil, err
	}
	now, set := o.cfg.Now(), o.keys.Load()
	e, err := set.epochs.get(p.epoch, func() (*opened, error) { return o.openEpoch(set, &p, m.sealedAt, now) })
	if err != nil {
		return nil, err
	}
	if string(p.suite) != string(e.suite) {
		return nil, errOtherSuite(e.suite)
	}
	if err := o.checkBounds(e, &m, now); err != nil {
		return nil, err
	}
	sender, err := o.vouch(e, m.sealedAt, now)
	if err != nil {
		return nil, err
	}
	return o.openMessage(e, &m, b, sender, want)
}

func errOtherID(id string, want Expect) error {
	return refuse(ErrID, "the broker, or somebody else between sender and receiver, has changed its id", "it was delivered as %q and is %q", want.ID, clip(id))
}

// clip keeps a stranger's text short and printable enough for an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// checkBounds holds a message against its epoch and the clock.
func (o *Opener) checkBounds(e *opened, m *message, now time.Time) error {
	at := time.UnixMilli(m.sealedAt)
	switch {
	case m.seq == 0 || m.seq > e.max:
		return refuse(ErrEpoch, "", "the message has number %d, and the epoch has room for %d", m.seq, e.max)
	case m.sealedAt < e.created || m.sealedAt > e.notAfter:
		return refuse(ErrTime, "", "it was sealed on %s, outside its epoch", date(at))
	case m.sealedAt > now.Add(o.cfg.MaxSkew).UnixMilli():
		return &Error{Kind: ErrTime, Detail: "it was sealed on " + date(at), Err: ErrFuture, Remedy: "check the clocks of sender and receiver"}
	}
	return nil
}

// vouch asks the Verifier, or remembers its answer of a moment ago.
func (o *Opener) vouch(e *opened, at int64, now time.Time) (*Sender, error) {
	if v := e.vouched.Load(); v != nil && now.Before(v.until) && !now.Before(v.since) && at >= v.from && at <= v.to {
		return &v.sender, nil
	}
	v, err := o.verify(e.certs, e.sender, at, now)
	if err != nil {
		e.vouched.Store(nil)
		return nil, err
	}
	e.vouched.Store(v)
	return &v.sender, nil
}

// voucher is a Verifier's answer and how far it can be relied upon.
type voucher struct {
	sender       Sender
	from, to     int64 // times of sealing, in milliseconds
	since, until time.Time
}

func (o *Opener) verify(certs []*x509.Certificate, name string, at int64, now time.Time) (*voucher, error) {
	sender, err := o.cfg.Verifier.Verify(certs, time.UnixMilli(at))
	if err != nil {
		return nil, refusal(err)
	}
	if sender.ID != name || name == "" {
		return nil, refuse(ErrSender, "", "the certificate is %q's, and the envelope says it is from %q", sender.ID, name)
	}
	return &voucher{sender, sender.NotBefore.UnixMilli(), sender.NotAfter.UnixMilli(), now, now.Add(o.cfg.Recheck)}, nil
}

// refusal makes an Error of what a Verifier returned.
func refusal(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	refused := &Error{Kind: kindOf(err), Err: err}
	if refused.Kind == ErrUndecided {
		refused.Remedy = "leave the message where it is, and try again"
	}
	return refused
}

// kindOf sorts what a Verifier returned.
func kindOf(err error) error {
	for _, kind := range []error{ErrRevoked, ErrExpired, ErrNotYetValid, ErrUndecided} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return ErrUntrusted
}

// openMessage opens a message of an open epoch. It is the only way to a text.
func (o *Opener) openMessage(e *opened, m *message, b *buffer, sender *Sender, want Expect) (*Message, error) {
	b.data = e.appendData(b.data[:0], m)
	aead, err := e.aead(m.salt, m.id)
	if err != nil {
		return nil, fmt.Errorf("cipher of the message: %w", err)
	}
	text, err := aead.Open(nil, zeroNonce[:], m.ciphertext, b.data)
	if err != nil {
		return nil, refuse(ErrChanged, "somebody between sender and receiver has changed it", "the tag does not fit")
	}
	digest := digestOf(b.data, m.salt, m.ciphertext)
	switch {
	case e.alone && len(m.signature) != 0:
		return nil, malformed("a message for one receiver has no signature of its own")
	case !e.alone:
		// All receivers of the epoch know its secret. Only the signature says that the
		// message is not from one of them.
		if err := CheckSignature(e.certs[0], LabelMessage, digest[:], m.signature); err != nil {
			return nil, err
		}
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if text, err = unpad(text); err != nil {
		return nil, err
	}
	out := &Message{Suite: e.suite, ID: string(m.id), Text: text, Sender: *sender, Receivers: e.receivers,
		Exchange: string(m.exchange), RoutingKey: string(m.routingKey), SealedAt: time.UnixMilli(m.sealedAt),
		Epoch: e.info, Sequence: m.seq, Digest: digest}
	if want.Exchange != "" && want.Exchange != out.Exchange || want.RoutingKey != "" && want.RoutingKey != out.RoutingKey {
		return nil, refuse(ErrRoute, "the broker has brought it here by itself, or a binding is wrong",
			"it was sent to exchange %q with routing key %q", out.Exchange, out.RoutingKey)
	}
	return out, nil
}

func (o *Opener) accepts(s Suite) bool { return slices.Contains(o.cfg.Suites, s) }

// errNoKey says for whom an envelope is, if it is not for one of our keys.
func (o *Opener) errNoKey(h *header, set *keySet) error {
	for _, s := range h.slots {
		if s.name != o.cfg.Name {
			continue
		}
		id := fmt.Sprintf("%x", s.key)
		if k, ok := set.retired[id]; ok {
			return refuse(ErrWrongKey, "ask the sender to take the newest key and to send it again", "its key %s was retired on %s", k.Fingerprint, date(k.Retired))
		}
		return refuse(ErrWrongKey, "add the key file that has it, or ask the sender to take the newest key",
			"its key has the fingerprint sha256:%s…, and no key here has", id)
	}
	for _, s := range h.slots {
		if set.byID[s.key] != nil {
			return refuse(ErrReceiver, "somebody has announced this receiver's key as their own", "it is sealed for a key of %q under the name %q", o.cfg.Name, s.name)
		}
	}
	if others := len(h.slots) - 1; others > 0 {
		return refuse(ErrReceiver, "", "it is for %q and %d others, and this is %q", h.slots[0].name, others, o.cfg.Name)
	}
	return refuse(ErrReceiver, "", "it is for %q, and this is %q", h.slots[0].name, o.cfg.Name)
}
