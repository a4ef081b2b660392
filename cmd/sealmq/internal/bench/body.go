package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
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
	publisher      int
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
	e := &envelope{publisher: publisher}
	e.json = append(e.json, beforeID...)
	e.json = append(e.json, prefix...)
	e.idNumber = len(e.json)
	e.json = append(e.json, make([]byte, numberDigits)...)
	e.json = append(e.json, afterID...)
	e.body = len(e.json)
	e.json = append(e.json, make([]byte, headBytes)...)
	e.json = append(e.json, fill...)
	e.json = append(e.json, afterBody...)
	return e
}

// set fills in the number and the time of a message. The returned id and body are valid
// until the next call.
func (e *envelope) set(number uint64, sent int64) (id, body []byte) {
	head := e.json[e.body:][:headBytes]
	putHead(head, e.publisher, number, sent)
	copy(e.json[e.idNumber:], head[publisherDigits:][:numberDigits])
	return e.json[len(beforeID) : e.idNumber+numberDigits], e.json
}

// putHead writes the publisher, the number and the time in hexadecimal digits.
func putHead(dst []byte, publisher int, number uint64, sent int64) {
	var b [headBytes / 2]byte
	binary.BigEndian.PutUint64(b[:], uint64(publisher)<<(4*numberDigits)|number)
	binary.BigEndian.PutUint64(b[8:], uint64(sent))
	hex.Encode(dst, b[:])
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
	head, rest := message[at:][:headBytes], message[at+headBytes:]
	var b [headBytes / 2]byte
	if _, err := hex.Decode(b[:], head); err != nil || !bytes.Equal(rest[:len(fill)], fill) {
		return p, false
	}
	first := binary.BigEndian.Uint64(b[:])
	p = parsed{int(first >> (4 * numberDigits)), first & (1<<(4*numberDigits) - 1), int64(binary.BigEndian.Uint64(b[8:]))}
	var again [headBytes]byte // Decode also accepts upper case
	putHead(again[:], p.publisher, p.number, p.sent)
	return p, bytes.Equal(again[:], head)
}
