package seal

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal/internal/jsonform"
)

// Defaults of SealerConfig.
const (
	DefaultEpochMessages = 1 << 16
	DefaultEpochAge      = 15 * time.Minute
)

// SealerConfig is what a Sealer works with. Receivers must be set, and Signer for the
// suites that say who sent a message.
type SealerConfig struct {
	// Receivers are whom to seal for. Their keys must be of one suite, which is the
	// Sealer's. Legacy suites take one receiver.
	Receivers []Receiver
	// Signer is asked at the beginning of every epoch, so that a renewed certificate is
	// used from then on. It must be safe for concurrent use.
	Signer func() (*Signer, error)
	// EpochMessages and EpochAge bound an epoch (default DefaultEpochMessages and
	// DefaultEpochAge, at most MaxEpochMessages and MaxEpochAge). An epoch ends with
	// its signer's certificate at the latest.
	EpochMessages uint64
	EpochAge      time.Duration
	// Extensions is asked at the beginning of every epoch for what goes into its
	// header, signed; no type may be there twice. It may be nil.
	Extensions func() []Extension
	// OmitChain is asked at the beginning of every epoch whether to leave the signer's
	// certificates out of its envelopes, which saves about 1.5 KiB in each (default: they
	// are in). Receivers must know them by other means (OpenerConfig.Chain).
	OmitChain func(*Signer) bool
	// Now is the time of day (default time.Now).
	Now func() time.Time
}

// Receiver is one for whom a message is sealed.
type Receiver struct {
	Name string
	Key  *PublicKey
}

// Content is a message to be sealed.
type Content struct {
	// ID is the message id; NewID makes one.
	ID string
	// Exchange and RoutingKey are where the message is sent to. They are bound to it.
	Exchange, RoutingKey string
	// Body is the text. It may be empty, except with CipherMQ's suites.
	Body []byte
}

// Sealer seals messages for the same receivers. It holds the secret of one epoch in
// memory and nowhere else. It is safe for concurrent use and prints as "[redacted]".
//
// Sealing the same content twice gives different envelopes: who publishes again after a
// doubt must send the first envelope again, or it counts as another message.
type Sealer struct {
	redacted
	cfg     SealerConfig
	plan    atomic.Pointer[plan]
	current atomic.Pointer[running]
	buffers sync.Pool // of *buffer

	mu sync.Mutex // held while an epoch is opened or closed, or the plan changed

	// For tests and vectors.
	random      io.Reader
	encapsulate func(Receiver) (enc []byte, e exporter, err error)
}

// plan is whom to seal for.
type plan struct {
	suite     Suite
	receivers []Receiver
}

// running is an epoch that is being sealed in.
type running struct {
	*epoch
	signer            *Signer // of each message; nil if there is one receiver
	created, notAfter int64
	taken             atomic.Uint64 // sequence numbers
	closed            uint64        // messages of a closed epoch; guarded by Sealer.mu
	text              []byte        // of the envelope, from the end of the id to the beginning of sealed
}

// buffer is what sealing one message needs for itself.
type buffer struct{ names, data, text, block []byte }

// NewSealer prepares a Sealer. The first epoch is opened with the first message.
func NewSealer(cfg SealerConfig) (*Sealer, error) {
	cfg.EpochMessages = cmp.Or(cfg.EpochMessages, DefaultEpochMessages)
	cfg.EpochAge = cmp.Or(cfg.EpochAge, DefaultEpochAge)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.EpochMessages > MaxEpochMessages {
		return nil, fmt.Errorf("an epoch has at most %d messages", uint64(MaxEpochMessages))
	}
	if cfg.EpochAge < time.Millisecond || cfg.EpochAge > MaxEpochAge {
		return nil, fmt.Errorf("an epoch lasts 1 ms to %v, not %v", MaxEpochAge, cfg.EpochAge)
	}
	s := &Sealer{cfg: cfg, random: rand.Reader, encapsulate: encapsulate}
	s.buffers.New = func() any { return new(buffer) }
	if err := s.SetReceivers(cfg.Receivers); err != nil {
		return nil, err
	}
	return s, nil
}

func encapsulate(r Receiver) ([]byte, exporter, error) {
	key := r.Key.alg.(kemPublic) // every key of a suite that proves its sender has one
	return key.kem.encapsulate(key.key)
}

// SetReceivers changes whom to seal for, or their keys, from the next message on. A
// Sealer whose messages say who sent them stays one, and one of legacy suites too.
func (s *Sealer) SetReceivers(list []Receiver) error {
	if len(list) == 0 || len(list) > MaxReceivers {
		return fmt.Errorf("a message is sealed for 1 to %d receivers, not for %d", MaxReceivers, len(list))
	}
	var slots []slot
	for _, r := range list {
		if err := checkText("receiver", r.Name); err != nil {
			return err
		}
		if r.Key == nil {
			return fmt.Errorf("the receiver %q has no key", r.Name)
		}
		if a, b := list[0].Key.suite, r.Key.suite; a != b {
			return fmt.Errorf("the receivers %q and %q have keys of different suites, %s and %s", list[0].Name, r.Name, a, b)
		}
		slots = append(slots, slot{name: r.Name, key: r.Key.id()})
	}
	if err := distinct(slots); err != nil {
		return err
	}
	suite := list[0].Key.suite
	switch {
	case suite.Proves() && s.cfg.Signer == nil:
		return fmt.Errorf("suite %s says who sent a message and needs the sender's certificate", suite)
	case !suite.Proves() && len(list) > 1:
		return fmt.Errorf("suite %s seals for one receiver at a time", suite)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.plan.Load(); old != nil && old.suite.Proves() != suite.Proves() {
		return fmt.Errorf("a Sealer of suite %s cannot become one of suite %s", old.suite, suite)
	}
	s.plan.Store(&plan{suite, slices.Clone(list)})
	s.close()
	return nil
}

// Rotate ends the epoch. The next message opens another one.
func (s *Sealer) Rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

// close keeps anybody from taking another number and notes how many were taken.
func (s *Sealer) close() {
	if e := s.current.Load(); e != nil && e.taken.Load() < math.MaxUint64/2 {
		e.closed = min(e.taken.Swap(math.MaxUint64/2), e.max)
	}
}

// Suite is the suite that messages are sealed with.
func (s *Sealer) Suite() Suite { return s.plan.Load().suite }

// Seal returns an envelope, a JSON object on one line, which is the body to publish under
// c.ID.
func (s *Sealer) Seal(c Content) ([]byte, error) {
	if p := s.plan.Load(); !p.suite.Proves() {
		return s.sealLegacy(p, c)
	}
	b := s.buffers.Get().(*buffer)
	defer s.release(b)
	e, err := s.seal(b, c)
	if err != nil {
		return nil, err
	}
	dst := make([]byte, 0, len(c.ID)+32+len(e.text)+jsonform.Base64.EncodedLen(len(b.block)))
	dst = append(dst, `{"message_id":`...)
	dst = jsonform.AppendString(dst, c.ID)
	dst = append(dst, e.text...)
	dst = jsonform.Base64.AppendEncode(dst, b.block)
	return append(dst, `"}`...), nil
}

// release keeps a buffer for the next message, unless a rare large one made it large.
func (s *Sealer) release(b *buffer) {
	if cap(b.text) <= maxKeptBuffer {
		s.buffers.Put(b)
	}
}

const maxKeptBuffer = 1 << 18

func (s *Sealer) sealLegacy(p *plan, c Content) ([]byte, error) {
	if err := checkContent(c); err != nil {
		return nil, err
	}
	to := p.receivers[0]
	return to.Key.alg.(LegacyPublicKey).Seal(p.suite, to.Name, c, s.cfg.Now(), s.random)
}

func checkContent(c Content) error {
	if len(c.Body) > MaxContentBytes {
		return errContent(len(c.Body))
	}
	return cmp.Or(sealmq.CheckName("message id", c.ID), checkOptional("exchange", c.Exchange), checkOptional("routing key", c.RoutingKey))
}

// seal leaves the message in b.block.
func (s *Sealer) seal(b *buffer, c Content) (*running, error) {
	if err := checkContent(c); err != nil {
		return nil, err
	}
	e, m, err := s.take()
	if err != nil {
		return nil, err
	}
	b.names = append(append(append(b.names[:0], c.ID...), c.Exchange...), c.RoutingKey...)
	i, j := len(c.ID), len(c.ID)+len(c.Exchange)
	m.id, m.exchange, m.routingKey = b.names[:i], b.names[i:j], b.names[j:]

	b.block = append(b.block[:0], make([]byte, saltBytes)...)
	if _, err := io.ReadFull(s.random, b.block); err != nil {
		return nil, fmt.Errorf("draw a salt: %w", err)
	}
	salt := [saltBytes]byte(b.block)
	m.salt = salt[:]
	b.data = e.appendData(b.data[:0], &m)
	aead, err := e.aead(m.salt, m.id)
	if err != nil {
		return nil, fmt.Errorf("cipher of the message: %w", err)
	}
	// With room for all of it the text is encrypted in place, and no copy of it is left.
	b.text = slices.Grow(b.text[:0], len(c.Body)+1+tagBytes)
	b.text = append(append(b.text, c.Body...), 1)
	b.text = aead.Seal(b.text[:0], zeroNonce[:], b.text, b.data)
	if e.signer != nil {
		digest := digestOf(b.data, m.salt, b.text)
		if m.signature, err = e.signer.Sign(LabelMessage, digest[:]); err != nil {
			return nil, err
		}
	}
	m.ciphertext = b.text
	b.block = m.append(b.block[:0])
	return e, nil
}

// clockSlack is how far the clock may be set back within an epoch. Messages keep the
// epoch's beginning as their time meanwhile.
const clockSlack = 60_000 // milliseconds

// take reserves the next sequence number, in a new epoch if need be.
func (s *Sealer) take() (*running, message, error) {
	for {
		now := s.cfg.Now().UnixMilli()
		e := s.current.Load()
		if e != nil && now <= e.notAfter && now+clockSlack >= e.created {
			if seq := e.taken.Add(1); seq <= e.max {
				return e, message{seq: seq, sealedAt: max(now, e.created)}, nil
			}
		}
		if err := s.change(e, now); err != nil {
			return nil, message{}, err
		}
	}
}

// change opens the epoch that follows old, unless somebody has done it already.
func (s *Sealer) change(old *running, now int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Load() != old {
		return nil
	}
	s.close()
	e, err := s.open(old, now)
	if err != nil {
		return fmt.Errorf("open an epoch: %w", err)
	}
	s.current.Store(e)
	return nil
}

// open makes an epoch. The caller holds s.mu.
func (s *Sealer) open(old *running, now int64) (*running, error) {
	signer, err := s.cfg.Signer()
	if err != nil {
		return nil, err
	}
	if err := validNow(signer, now); err != nil {
		return nil, err
	}
	p := s.plan.Load()
	h := &header{kem: kemOf(p.suite), scheme: signer.scheme, created: now, maxMessages: s.cfg.EpochMessages, chain: signer.sum, sender: signer.name}
	h.notAfter = min(now+s.cfg.EpochAge.Milliseconds(), signer.NotAfter().UnixMilli())
	if old != nil {
		h.previous, h.previousCount = old.hash, old.closed
	}
	if s.cfg.Extensions != nil {
		h.extensions = s.cfg.Extensions()
	}
	headerBytes, secret, err := s.encodeHeader(h, p.receivers)
	if err != nil {
		return nil, err
	}
	signature, err := signer.Sign(LabelEpoch, headerBytes)
	if err != nil {
		return nil, err
	}
	if len(signature) > maxSignature {
		return nil, errors.New("the signature is too long for an envelope")
	}
	part := signed{headerBytes, signature, signer.chain}
	if s.cfg.OmitChain != nil && s.cfg.OmitChain(signer) {
		part.chain = nil
	}
	e := &running{epoch: newEpoch(h, headerBytes, secret), created: now, notAfter: h.notAfter}
	if len(h.slots) > 1 {
		e.signer = signer
	}
	e.text = append(e.text, `,"suite":"`...)
	e.text = append(e.text, p.suite...)
	e.text = append(e.text, `","epoch":"`...)
	e.text = jsonform.Base64.AppendEncode(e.text, part.append(nil))
	e.text = append(e.text, `","sealed":"`...)
	return e, nil
}

// encodeHeader fills in the receivers' slots and everything that depends on the secret.
func (s *Sealer) encodeHeader(h *header, to []Receiver) ([]byte, [32]byte, error) {
	var secret [32]byte
	exporters := make([]exporter, len(to))
	for i, r := range to {
		enc, e, err := s.encapsulate(r)
		if err != nil {
			return nil, secret, fmt.Errorf("seal for %q: %w", r.Name, err)
		}
		exporters[i] = e
		h.slots = append(h.slots, slot{name: r.Name, key: r.Key.id(), enc: enc})
	}
	var f fields
	if err := h.body(&f); err != nil {
		return nil, secret, err
	}
	body := sha256.Sum256(f.p)
	var err error
	if len(exporters) == 1 {
		secret, err = export(exporters[0], secretLabel, body)
	} else {
		_, err = io.ReadFull(s.random, secret[:])
		for i := 0; i < len(exporters) && err == nil; i++ {
			var mask [32]byte
			mask, err = export(exporters[i], maskLabel, body)
			masked := xor(secret, mask)
			h.slots[i].masked = masked[:]
		}
	}
	if err != nil {
		return nil, secret, fmt.Errorf("derive the epoch's secret: %w", err)
	}
	h.commitment = commit(secret, body)
	if h.rest(&f); len(f.p) > maxHeaderBytes {
		return nil, secret, errors.New("the epoch's header is too long; seal for fewer receivers")
	}
	return f.p, secret, nil
}

func validNow(s *Signer, now int64) error {
	switch {
	case now > s.leaf.NotAfter.UnixMilli():
		return refuse(ErrExpired, "renew the sender's certificate", "%s's certificate expired on %s", s.name, date(s.leaf.NotAfter))
	case now < s.leaf.NotBefore.UnixMilli():
		return refuse(ErrNotYetValid, "check the clock of this machine", "%s's certificate is valid from %s", s.name, date(s.leaf.NotBefore))
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
