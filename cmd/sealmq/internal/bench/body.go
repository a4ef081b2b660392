package bench

import (
	"bytes"
	"math/rand/v2"
)

// A body is the publisher (4 hexadecimal digits), the message's number (12), the time
// it was sent in nanoseconds (16), and a pattern that is the same in every message.
const (
	publisherDigits = 4
	numberDigits    = 12
	timeDigits      = 16
	headBytes       = publisherDigits + numberDigits + timeDigits

	// MinSize is the smallest body that can be checked.
	MinSize = headBytes
	// MaxPublishers is how many publishers the digits can number.
	MaxPublishers = 1 << (4 * publisherDigits)
)

// alphabet has 64 characters that need no escape in JSON.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"

// pattern is the part of a body that all messages of that size share.
func pattern(size int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(size)))
	p := make([]byte, max(0, size-headBytes))
	for i := range p {
		p[i] = alphabet[random.IntN(len(alphabet))]
	}
	return p
}

// envelope is a message of the text protocol with an opaque body. It has the members that
// every generation of clients needs. With a body of 256 bytes its line has about 400.
type envelope struct {
	json           []byte
	idNumber, body int // offsets in json
}

// The parts of the envelope around the id and the body.
const (
	beforeID   = `{"message_id":"`
	afterID    = `","receiver_client_id":"receiver_1","enc_session_key":"","nonce":"","tag":"","ciphertext":"`
	afterBody  = `"}`
	bodyMarker = `"ciphertext":"`
)

// newEnvelope is the envelope of one publisher. Its message ids begin with prefix.
func newEnvelope(prefix string, publisher int, fill []byte) *envelope {
	e := &envelope{}
	e.json = append(e.json, beforeID...)
	e.json = append(e.json, prefix...)
	e.idNumber = len(e.json)
	e.json = append(e.json, make([]byte, numberDigits)...)
	e.json = append(e.json, afterID...)
	e.body = len(e.json)
	e.json = append(e.json, make([]byte, headBytes)...)
	putHex(e.json[e.body:][:publisherDigits], uint64(publisher))
	e.json = append(e.json, fill...)
	e.json = append(e.json, afterBody...)
	return e
}

// set fills in the number and the time of a message. The returned id and body are valid
// until the next call.
func (e *envelope) set(number uint64, sent int64) (id, body []byte) {
	putHex(e.json[e.idNumber:][:numberDigits], number)
	b := e.json[e.body:]
	putHex(b[publisherDigits:][:numberDigits], number)
	putHex(b[publisherDigits+numberDigits:][:timeDigits], uint64(sent))
	return e.json[len(beforeID) : e.idNumber+numberDigits], e.json
}

// parsed is what the body of a delivered message says.
type parsed struct {
	publisher int
	number    uint64
	sent      int64
}

// parse parses a delivered message and compares its pattern. ok is false if any byte
// differs from what was sent.
func parse(message, fill []byte) (p parsed, ok bool) {
	at := len(message) - len(afterBody) - len(fill) - headBytes
	if at < 0 || !bytes.HasSuffix(message[:at], []byte(bodyMarker)) || string(message[len(message)-len(afterBody):]) != afterBody {
		return p, false
	}
	b := message[at:]
	publisher, ok1 := parseHex(b[:publisherDigits])
	number, ok2 := parseHex(b[publisherDigits:][:numberDigits])
	sent, ok3 := parseHex(b[publisherDigits+numberDigits:][:timeDigits])
	if !ok1 || !ok2 || !ok3 || !bytes.Equal(b[headBytes:headBytes+len(fill)], fill) {
		return p, false
	}
	return parsed{int(publisher), number, int64(sent)}, true
}

const hexDigits = "0123456789abcdef"

func putHex(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = hexDigits[v&15]
		v >>= 4
	}
}

func parseHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
