package local

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Kinds of records in the journal. Numbers are uvarints, strings are length and bytes.
//
//	message   flags, published ms (zig-zag), arrived ms since published (zig-zag),
//	          [source queue id, source seq, reason, source name,] [content hash 16, [scope 4,]]
//	          copies: n × (queue id, seq), publisher, exchange, key, id, properties,
//	          body to the end
//	settle    n × (queue id, count, count × seq delta from the one before, zig-zag)
//	return    n × (queue id, seq, attempts, until ms, reason)
//	declare   queue id, name, options as JSON
//	delete    queue id
//	define    n × (key, 0 or 1 + length and value)
const (
	kindMessage byte = 16 + iota
	kindSettle
	kindReturn
	kindDeclare
	kindDelete
	kindDefine
)

// Flags of a message record.
const (
	flagHash    = 1 << iota // has a content hash: the id is in the dedup table
	flagMoved               // came from another queue; settles its source
	flagForward             // a copy of an older record; everything is as it was there
	flagScope               // with flagHash: its id is unique within a scope
)

var errRecord = errors.New("record does not decode")

// messageRecord is a decoded message record. Its strings and slices alias the payload.
type messageRecord struct {
	flags              byte
	published, arrived int64
	fromQueue          uint32
	fromSeq            uint64
	deathReason        string
	deathQueue         string
	hash               contentHash
	scope              uint32
	copies             []copyRef
	publisher          string
	exchange, key, id  string
	properties, body   []byte
}

type copyRef struct {
	queue uint32
	seq   uint64
}

// appendHead appends everything but the body.
func (m *messageRecord) appendHead(b []byte) []byte {
	b = append(b, m.flags)
	b = binary.AppendVarint(b, m.published)
	b = binary.AppendVarint(b, m.arrived-m.published)
	if m.flags&flagMoved != 0 {
		b = binary.AppendUvarint(b, uint64(m.fromQueue))
		b = binary.AppendUvarint(b, m.fromSeq)
		b = appendString(b, m.deathReason)
		b = appendString(b, m.deathQueue)
	}
	if m.flags&flagHash != 0 {
		b = appendHash(b, m.hash)
		if m.flags&flagScope != 0 {
			b = binary.LittleEndian.AppendUint32(b, m.scope)
		}
	}
	b = appendCopies(b, m.copies)
	b = appendString(b, m.publisher)
	b = appendString(b, m.exchange)
	b = appendString(b, m.key)
	b = appendString(b, m.id)
	return appendString(b, aliasString(m.properties))
}

// decodeMessage decodes a message record. copies is reused if it is large enough.
func decodeMessage(p []byte, copies []copyRef) (m messageRecord, err error) {
	d := decoder{b: p}
	m.flags = d.byte()
	m.published = d.varint()
	m.arrived = m.published + d.varint()
	if m.flags&flagMoved != 0 {
		m.fromQueue = uint32(d.uvarint())
		m.fromSeq = d.uvarint()
		m.deathReason = d.string()
		m.deathQueue = d.string()
	}
	if m.flags&flagHash != 0 {
		m.hash = contentHash{d.uint64(), d.uint64()}
		if m.flags&flagScope != 0 {
			m.scope = d.uint32()
		}
	}
	m.copies = d.copies(copies)
	m.publisher = d.string()
	m.exchange = d.string()
	m.key = d.string()
	m.id = d.string()
	m.properties = d.bytes()
	if len(m.properties) == 0 {
		m.properties = nil
	}
	m.body = d.b
	return m, d.err
}

func (m *messageRecord) message() sealmq.Message {
	return sealmq.Message{
		ID: strings.Clone(m.id), Publisher: m.publisher, Exchange: m.exchange, Key: m.key,
		Published: time.UnixMilli(m.published), Properties: m.properties, Body: m.body,
	}
}

// A decoder reads from the front of b. After the first error it returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	d.b, d.err = nil, errRecord
}

// take takes n bytes, or nil if there are fewer.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// count reads a number of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	v := d.uvarint()
	if v > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) bytes() []byte { return d.take(d.count(1)) }

// copies appends a list of copies to dst[:0].
func (d *decoder) copies(dst []copyRef) []copyRef {
	dst = dst[:0]
	for range d.count(2) {
		dst = append(dst, copyRef{uint32(d.uvarint()), d.uvarint()})
	}
	return dst
}

func (d *decoder) string() string { return aliasString(d.bytes()) }

func (d *decoder) more() bool { return d.err == nil && len(d.b) > 0 }

func appendCopies(b []byte, copies []copyRef) []byte {
	b = binary.AppendUvarint(b, uint64(len(copies)))
	for _, c := range copies {
		b = binary.AppendUvarint(b, uint64(c.queue))
		b = binary.AppendUvarint(b, c.seq)
	}
	return b
}

func appendHash(b []byte, h contentHash) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, h[0]), h[1])
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// aliasString returns a string that shares its bytes, which must never change again.
func aliasString(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// settledBytes is what one copy needs in a settle record at most, with a queue of its own.
const settledBytes = binary.MaxVarintLen32 + 1 + binary.MaxVarintLen64

// appendSettle encodes settled copies. Those of one queue are best next to each other.
func appendSettle(b []byte, copies []copyRef) []byte {
	for len(copies) > 0 {
		queue, n := copies[0].queue, 1
		for n < len(copies) && copies[n].queue == queue {
			n++
		}
		b = binary.AppendUvarint(b, uint64(queue))
		b = binary.AppendUvarint(b, uint64(n))
		last := uint64(0)
		for _, c := range copies[:n] {
			b = binary.AppendVarint(b, int64(c.seq-last))
			last = c.seq
		}
		copies = copies[n:]
	}
	return b
}

func decodeSettle(p []byte, f func(copyRef)) error {
	d := decoder{b: p}
	for d.more() {
		queue := uint32(d.uvarint())
		n := d.count(1)
		last := uint64(0)
		for range n {
			last += uint64(d.varint())
			if d.err == nil {
				f(copyRef{queue, last})
			}
		}
	}
	return d.err
}

func appendReturn(b []byte, c copyRef, m mark) []byte {
	b = binary.AppendUvarint(b, uint64(c.queue))
	b = binary.AppendUvarint(b, c.seq)
	return appendMark(b, m)
}

func appendMark(b []byte, m mark) []byte {
	b = binary.AppendUvarint(b, uint64(m.attempts))
	b = binary.AppendUvarint(b, uint64(m.until))
	return appendString(b, m.reason)
}

func (d *decoder) mark() mark {
	return mark{attempts: uint32(d.uvarint()), until: int64(d.uvarint()), reason: strings.Clone(d.string())}
}

func decodeReturn(p []byte, f func(copyRef, mark)) error {
	d := decoder{b: p}
	for d.more() {
		c, m := copyRef{uint32(d.uvarint()), d.uvarint()}, d.mark()
		if d.err == nil {
			f(c, m)
		}
	}
	return d.err
}

// storedOptions are the options of a queue in a record. Durations are numbers, so that the
// form on disk does not depend on the form in a protocol.
type storedOptions struct {
	MaxMessages   int64         `json:"max_messages,omitempty"`
	MaxBytes      int64         `json:"max_bytes,omitempty"`
	TTL           time.Duration `json:"ttl_ns,omitempty"`
	DeliveryLimit uint32        `json:"delivery_limit"`
	AckTimeout    time.Duration `json:"ack_timeout_ns"`
	Prefetch      int           `json:"prefetch"`
	MaxLineBytes  int           `json:"max_line_bytes"`
	DropOldest    bool          `json:"drop_oldest,omitempty"`
	Sealed        string        `json:"sealed,omitempty"`
	Private       bool          `json:"private,omitempty"`
	Owner         sealmq.Owner  `json:"owner,omitzero"` // older versions stored none
}

// storedQueue has beside its options whether a queue is paused. Older versions ignore that.
type storedQueue struct {
	storedOptions
	Paused bool `json:"paused,omitempty"`
}

func appendQueue(b []byte, id uint32, name string, o sealmq.QueueOptions, paused bool) []byte {
	b = binary.AppendUvarint(b, uint64(id))
	b = appendString(b, name)
	text, err := json.Marshal(storedQueue{storedOptions(o), paused})
	if err != nil {
		panic("local: internal error: " + err.Error())
	}
	return appendString(b, aliasString(text))
}

func (d *decoder) queue() *queue {
	id := uint32(d.uvarint())
	name := strings.Clone(d.string())
	text := d.bytes()
	var o storedQueue
	if d.err == nil {
		if err := json.Unmarshal(text, &o); err != nil {
			d.err = fmt.Errorf("options of queue %q: %w", name, err)
		}
	}
	q := newQueue(id, name, sealmq.QueueOptions(o.storedOptions))
	q.paused = o.Paused
	return q
}

func encodeDefinitions(b []byte, batch []engine.Definition) []byte {
	for _, d := range batch {
		b = appendString(b, d.Key)
		if d.Value == nil {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = appendString(b, aliasString(d.Value))
	}
	return b
}

func decodeDefinitions(p []byte) (out []engine.Definition, err error) {
	d := decoder{b: p}
	for d.more() {
		def := engine.Definition{Key: d.string()}
		if d.byte() == 1 {
			def.Value = append([]byte{}, d.bytes()...)
		}
		out = append(out, def)
	}
	return out, d.err
}
