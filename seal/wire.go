package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal/internal/jsonform"
)

// Bounds of an envelope.
const (
	// MaxContentBytes bounds what can be sealed, padding included.
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
func split(body []byte) (parts, error) {
	p, err := splitAny(body)
	if err == nil && len(p.epoch) > jsonform.Base64.EncodedLen(maxEpochBytes) {
		return parts{}, malformed("the epoch has %d bytes, and %d are allowed", len(p.epoch), jsonform.Base64.EncodedLen(maxEpochBytes))
	}
	return p, err
}

func splitAny(body []byte) (parts, error) {
	if len(body) > maxEnvelopeBytes {
		return parts{}, malformed("it has %d bytes, and %d are allowed", len(body), maxEnvelopeBytes)
	}
	if p, ok := splitCanonical(body); ok {
		return p, nil
	}
	if t := bytes.TrimLeft(body, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return parts{}, notSealed()
	}
	return splitJSON(body)
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

// epochPart is the part of an envelope that all messages of an epoch share:
//
//	2+n  header
//	2+n  signature of the header
//	2+n  certificates, each 2+n
type epochPart struct {
	header, signature, chain []byte
}

func splitEpoch(p []byte) (e epochPart, err error) {
	r := reader{p}
	var ok1, ok2, ok3 bool
	e.header, ok1 = r.prefixed()
	e.signature, ok2 = r.prefixed()
	e.chain, ok3 = r.prefixed()
	switch {
	case !ok1 || !ok2 || !ok3:
		return e, malformed("the epoch is cut")
	case len(r.p) > 0:
		return e, malformed("something follows the epoch")
	case len(e.signature) > maxSignature:
		return e, malformed("the signature has %d bytes, and %d are allowed", len(e.signature), maxSignature)
	}
	return e, nil
}

func (e *epochPart) append(dst []byte) []byte {
	dst = appendPrefixed(dst, e.header)
	dst = appendPrefixed(dst, e.signature)
	return appendPrefixed(dst, e.chain)
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

// parseMessage reads a message. What it returns aliases id and p.
func parseMessage(id, p []byte) (m message, err error) {
	r := reader{p}
	seq, ok1 := r.uint64()
	sealedAt, ok2 := r.uint64()
	salt, ok3 := r.take(saltBytes)
	exchange, ok4 := r.prefixed()
	routingKey, ok5 := r.prefixed()
	signature, ok6 := r.prefixed()
	switch {
	case !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || len(r.p) < tagBytes+1:
		return m, malformed("the message is cut")
	case sealedAt > maxMillis:
		return m, malformed("the message's time is after the year 9999")
	case len(signature) > maxSignature:
		return m, malformed("the signature has %d bytes, and %d are allowed", len(signature), maxSignature)
	case len(r.p) > MaxContentBytes+1+tagBytes:
		return m, malformed("the ciphertext has %d bytes, and %d are allowed", len(r.p), MaxContentBytes+1+tagBytes)
	case len(exchange) > sealmq.MaxNameBytes || len(routingKey) > sealmq.MaxNameBytes:
		return m, malformed("the exchange or the routing key is longer than %d bytes", sealmq.MaxNameBytes)
	}
	return message{id, seq, int64(sealedAt), salt, exchange, routingKey, signature, r.p}, nil
}

// check refuses what parseMessage lets pass for speed: texts that no sender may use.
func (m *message) check() error {
	if err := sealmq.CheckName("message id", string(m.id)); err != nil {
		return &Error{Kind: ErrMalformed, Err: err}
	}
	for _, f := range []struct {
		kind string
		text []byte
	}{{"exchange", m.exchange}, {"routing key", m.routingKey}} {
		if err := checkOptional(f.kind, string(f.text)); err != nil {
			return &Error{Kind: ErrMalformed, Err: err}
		}
	}
	return nil
}

// appendFields encodes what comes before the signature.
func (m *message) appendFields(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, m.seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.sealedAt))
	dst = append(dst, m.salt...)
	dst = appendPrefixed(dst, m.exchange)
	return appendPrefixed(dst, m.routingKey)
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
	return &Error{Kind: ErrTooLarge, Detail: fmt.Sprintf("the content has %d bytes with its padding, and %d are allowed", n, MaxContentBytes)}
}
