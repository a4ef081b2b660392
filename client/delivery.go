package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Delivery is one message in this consumer's hands, until it is acknowledged, returned,
// or taken back by the broker because its ack timeout is over or the connection is lost.
type Delivery struct {
	ID string
	// Body is as the publisher sent it. It is the receiver's to keep and to change.
	Body []byte
	meta []byte
}

// Meta is what the broker says about a delivery. The publisher is the identity that the
// broker verified; there is only the broker's word for it.
type Meta struct {
	Queue     string    `json:"queue"`
	Publisher string    `json:"publisher"`
	Exchange  string    `json:"exchange"`
	Key       string    `json:"key"`
	Time      time.Time `json:"time"`
	// Attempt counts the deliveries of this copy from one, without those that were released.
	Attempt uint32 `json:"attempt"`
	// Redelivered says that this copy came back before.
	Redelivered bool `json:"redelivered,omitempty"`
	// DeathReason and DeathQueue say why and from where a dead letter came.
	DeathReason string `json:"death_reason,omitempty"`
	DeathQueue  string `json:"death_queue,omitempty"`
}

// Meta returns what the broker said about the delivery; it is an error if Config.Meta
// is not set.
func (d *Delivery) Meta() (Meta, error) {
	if d.meta == nil {
		return Meta{}, errors.New("there is no meta line for this delivery")
	}
	m, err := readMeta(d.meta)
	if err != nil {
		return Meta{}, fmt.Errorf("meta line: %w", err)
	}
	return m, nil
}

// readMeta reads a meta line. The broker prints all of them in one form, which is read
// by hand; any other JSON is the library's.
func readMeta(line []byte) (m Meta, err error) {
	if readPlainMeta(string(line), &m) {
		return m, nil
	}
	m = Meta{}
	err = json.Unmarshal(line, &m)
	return m, err
}

// readPlainMeta reads the form without escapes and without a dead letter's members.
func readPlainMeta(s string, m *Meta) bool {
	var stamp string
	for _, f := range [...]struct {
		before string
		to     *string
	}{
		{`{"queue":"`, &m.Queue}, {`","publisher":"`, &m.Publisher}, {`","exchange":"`, &m.Exchange},
		{`","key":"`, &m.Key}, {`","time":"`, &stamp},
	} {
		rest, ok := strings.CutPrefix(s, f.before)
		if !ok {
			return false
		}
		n := plainLength(rest)
		*f.to, s = rest[:n], rest[n:]
	}
	rest, ok := strings.CutPrefix(s, `","attempt":`)
	number, more := strings.CutSuffix(rest, "}")
	if !ok || !more {
		return false
	}
	attempt, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return false
	}
	m.Attempt = uint32(attempt)
	m.Time, err = time.Parse(time.RFC3339, stamp)
	return err == nil
}

// plainLength is how much of s needs no escape in a JSON string.
func plainLength(s string) int {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

// pushes gathers the deliveries of one read. Their bodies share one piece of memory
// and their ids one string, so that a read costs two allocations and not two a message.
type pushes struct {
	sub  *Subscription
	list []Delivery
	ids  []byte
	ends []int // where in ids each id ends
	mem  []byte
	meta []byte
}

func (p *pushes) begin(s *Subscription) { p.sub = s }

// keep copies b to memory that outlives the read buffer; more bytes may follow.
func (p *pushes) keep(b []byte, more int) []byte {
	if cap(p.mem)-len(p.mem) < len(b) {
		p.mem = make([]byte, 0, len(b)+more)
	}
	at := len(p.mem)
	p.mem = append(p.mem, b...)
	return p.mem[at:len(p.mem):len(p.mem)]
}

func (p *pushes) setMeta(text []byte) { p.meta = append([]byte(nil), text...) }

// message takes "<id> <body>"; rest is what follows it in this read.
func (p *pushes) message(text, rest []byte) error {
	if p.sub == nil {
		return errors.New("the broker pushed a message without a subscription")
	}
	i := bytes.IndexByte(text, ' ')
	if i <= 0 {
		return errors.New("the broker pushed a message without an id")
	}
	p.ids = append(p.ids, text[:i]...)
	p.ends = append(p.ends, len(p.ids))
	p.list = append(p.list, Delivery{Body: p.keep(text[i+1:], len(rest)), meta: p.meta})
	p.meta = nil
	return nil
}

// deliver hands the gathered deliveries to the subscription.
func (p *pushes) deliver() {
	if len(p.list) == 0 {
		return
	}
	ids, from := string(p.ids), 0
	for i, to := range p.ends {
		p.list[i].ID = ids[from:to]
		from = to
	}
	p.sub.add(p.list)
	clear(p.list)
	p.list, p.ids, p.ends, p.mem = p.list[:0], p.ids[:0], p.ends[:0], nil
}
