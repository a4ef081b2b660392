package seal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal/internal/jsonform"
)

// Bounds of an envelope.
const (
	// MaxContentBytes bounds what can be sealed, padding of other sealers included.
	MaxContentBytes = 16 << 20

	maxEnvelopeBytes = 24 << 20
	maxEpochBytes    = 3*2 + maxHeaderBytes + maxSignature + MaxChainBytes
	saltBytes        = 16
	tagBytes         = 16
)

// parts is an envelope cut at its seams, none of it checked:
//
//	{"message_id":"…","suite":"…","epoch":"base64","sealed":"base64"}
type parts struct{ id, suite, epoch, sealed []byte }

// split cuts an envelope.
func split(body []byte) (p parts, err error) {
	if len(body) > maxEnvelopeBytes {
		return parts{}, malformed("it has %d bytes, and %d are allowed", len(body), maxEnvelopeBytes)
	}
	p, ok := splitCanonical(body)
	if !ok {
		if t := bytes.TrimLeft(body, " \t\r\n"); len(t) == 0 || t[0] != '{' {
			return parts{}, notSealed()
		}
		p, err = splitJSON(body)
	}
	if err == nil && len(p.epoch) > jsonform.Base64.EncodedLen(maxEpochBytes) {
		return parts{}, malformed("the epoch has %d bytes, and %d are allowed", len(p.epoch), jsonform.Base64.EncodedLen(maxEpochBytes))
	}
	return p, err
}

// errNoSuite says that JSON may be an envelope of a legacy suite, and is none of ours.
var errNoSuite = malformed("suite is missing")

// splitCanonical cuts the JSON form as a Sealer prints it, without a look at what is
// between the quotes. Everything else is for splitJSON.
func splitCanonical(body []byte) (p parts, ok bool) {
	for _, m := range []struct {
		before string
		into   *[]byte
	}{{`{"message_id":"`, &p.id}, {`","suite":"`, &p.suite}, {`","epoch":"`, &p.epoch}, {`","sealed":"`, &p.sealed}} {
		if body, ok = bytes.CutPrefix(body, []byte(m.before)); !ok {
			return parts{}, false
		}
		i := bytes.IndexByte(body, '"')
		if i < 0 {
			return parts{}, false
		}
		*m.into, body = body[:i], body[i:]
	}
	if string(body) != `"}` || bytes.IndexByte(p.id, '\\') >= 0 {
		return parts{}, false
	}
	return p, true
}

// splitJSON cuts any JSON that says the same.
func splitJSON(body []byte) (parts, error) {
	var p parts
	fields := map[string]*[]byte{"message_id": &p.id, "suite": &p.suite, "epoch": &p.epoch, "sealed": &p.sealed}
	err := jsonform.Members(body, func(name string, value json.RawMessage) error {
		field := fields[name]
		if field == nil {
			return nil
		}
		if *field != nil {
			return fmt.Errorf("%s is there twice", name)
		}
		s, err := jsonform.String(name, value)
		*field = append([]byte{}, s...)
		return err
	})
	if err != nil {
		return parts{}, &Error{Kind: ErrMalformed, Err: err}
	}
	if p.suite == nil {
		return parts{}, errNoSuite
	}
	for _, name := range []string{"message_id", "epoch", "sealed"} {
		if *fields[name] == nil {
			return parts{}, malformed("%s is missing", name)
		}
	}
	return p, nil
}

// decode appends the bytes of a part to dst.
func decode(dst []byte, name string, part []byte) ([]byte, error) {
	if bytes.IndexByte(part, '\n') >= 0 || bytes.IndexByte(part, '\r') >= 0 { // which the decoder skips
		return nil, malformed("%s is not base64", name)
	}
	out, err := jsonform.Base64.AppendDecode(dst, part)
	if err != nil {
		return nil, malformed("%s is not base64", name)
	}
	return out, nil
}

// header takes the epoch apart and returns the SHA-256 of its header's body as well.
func (p *parts) header() (signed, *header, [32]byte, error) {
	raw, err := decode(nil, "epoch", p.epoch)
	if err != nil {
		return signed{}, nil, [32]byte{}, err
	}
	s, err := parseSigned(raw, "the epoch")
	if err != nil {
		return s, nil, [32]byte{}, err
	}
	h, body, err := parseHeader(s.content)
	return s, h, body, err
}

// signed is something with its signature. The messages of an epoch share one, around
// the epoch's header; a key entry is one around its body.
//
//	2+n  content
//	2+n  signature of the content
//	2+n  certificates, each 2+n
type signed struct{ content, signature, chain []byte }

func (s *signed) fields(f *fields) {
	prefixed(f, &s.content)
	prefixed(f, &s.signature)
	prefixed(f, &s.chain)
}

func (s *signed) append(dst []byte) []byte {
	f := fields{p: dst}
	s.fields(&f)
	return f.p
}

func parseSigned(p []byte, what string) (s signed, err error) {
	f := fields{p: p, reading: true}
	s.fields(&f)
	if err := f.end(what); err != nil {
		return s, err
	}
	return s, checkSignatureSize(s.signature)
}

func checkSignatureSize(sig []byte) error {
	if len(sig) > maxSignature {
		return malformed("the signature has %d bytes, and %d are allowed", len(sig), maxSignature)
	}
	return nil
}

// message is the part of an envelope that is its own:
//
//	 0    8  sequence number, from 1
//	 8    8  sealed at, milliseconds since 1970
//	16   16  salt
//	32  2+n  exchange
//	    2+n  routing key
//	    2+n  signature; empty if there is one receiver
//	         ciphertext with its tag, to the end
type message struct {
	id                   []byte
	seq                  uint64
	sealedAt             int64
	salt                 []byte
	exchange, routingKey []byte
	signature            []byte
	ciphertext           []byte
}

func (m *message) fields(f *fields) {
	integer(f, &m.seq, 8)
	integer(f, &m.sealedAt, 8)
	f.bytes(&m.salt, saltBytes)
	prefixed(f, &m.exchange)
	prefixed(f, &m.routingKey)
	prefixed(f, &m.signature)
	f.bytes(&m.ciphertext, len(f.p))
}

func (m *message) append(dst []byte) []byte {
	f := fields{p: dst}
	m.fields(&f)
	return f.p
}

// parseMessage reads a message. What it returns aliases id and p.
func parseMessage(id, p []byte) (message, error) {
	f := fields{p: p, reading: true}
	m := message{id: id}
	m.fields(&f)
	switch n := len(m.ciphertext); {
	case f.cut || n < tagBytes+1:
		return m, malformed("the message is cut")
	case uint64(m.sealedAt) > maxMillis:
		return m, malformed("the message's time is after the year 9999")
	case n > MaxContentBytes+1+tagBytes:
		return m, malformed("the ciphertext has %d bytes, and %d are allowed", n, MaxContentBytes+1+tagBytes)
	case len(m.exchange) > sealmq.MaxNameBytes || len(m.routingKey) > sealmq.MaxNameBytes:
		return m, malformed("the exchange or the routing key is longer than %d bytes", sealmq.MaxNameBytes)
	}
	return m, checkSignatureSize(m.signature)
}

// check refuses what parseMessage lets pass for speed: texts that no sender may use.
func (m *message) check() error {
	if err := cmp.Or(sealmq.CheckName("message id", string(m.id)), checkOptional("exchange", string(m.exchange)),
		checkOptional("routing key", string(m.routingKey))); err != nil {
		return &Error{Kind: ErrMalformed, Err: err}
	}
	return nil
}

// The padding is part of what is encrypted: the content, a byte 1, and any number of
// zeros.

func unpad(p []byte) ([]byte, error) {
	i := len(p) - 1
	for i >= 0 && p[i] == 0 {
		i--
	}
	if i < 0 || p[i] != 1 {
		return nil, malformed("the padding has no beginning")
	}
	return p[:i:i], nil
}

func errContent(n int) error {
	return &Error{Kind: ErrTooLarge, Detail: fmt.Sprintf("the content has %d bytes, and %d are allowed", n, MaxContentBytes)}
}
