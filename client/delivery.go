package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// readMeta reads what the broker says about a delivery. It prints all such lines in one form,
// which is read by hand; any other JSON is the library's.
func readMeta(line []byte) (d sealmq.Delivery, err error) {
	if readPlainMeta(string(line), &d) {
		return d, nil
	}
	var m struct {
		Queue       string    `json:"queue"`
		Publisher   string    `json:"publisher"`
		Exchange    string    `json:"exchange"`
		Key         string    `json:"key"`
		Time        time.Time `json:"time"`
		Attempt     uint32    `json:"attempt"`
		Redelivered bool      `json:"redelivered"`
		DeathReason string    `json:"death_reason"`
		DeathQueue  string    `json:"death_queue"`
	}
	err = json.Unmarshal(line, &m)
	return sealmq.Delivery{Message: sealmq.Message{Publisher: m.Publisher, Exchange: m.Exchange, Key: m.Key, Published: m.Time},
		Queue: m.Queue, Attempt: m.Attempt, Returned: m.Redelivered, DeathReason: m.DeathReason, DeathQueue: m.DeathQueue}, err
}

// readPlainMeta reads the form without escapes and without the members of a delivery that
// came back or of a dead letter.
func readPlainMeta(s string, d *sealmq.Delivery) bool {
	var stamp string
	for _, f := range [...]struct {
		before string
		to     *string
	}{
		{`{"queue":"`, &d.Queue}, {`","publisher":"`, &d.Publisher}, {`","exchange":"`, &d.Exchange},
		{`","key":"`, &d.Key}, {`","time":"`, &stamp},
	} {
		rest, ok := strings.CutPrefix(s, f.before)
		if !ok {
			return false
		}
		n := strings.IndexFunc(rest, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '"' || r == '\\' })
		if n < 0 {
			return false
		}
		*f.to, s = rest[:n], rest[n:]
	}
	rest, ok := strings.CutPrefix(s, `","attempt":`)
	number, more := strings.CutSuffix(rest, "}")
	attempt, err := strconv.ParseUint(number, 10, 32)
	if !ok || !more || err != nil {
		return false
	}
	d.Attempt = uint32(attempt)
	d.Published, err = time.Parse(time.RFC3339, stamp)
	return err == nil
}

// pushes gathers the deliveries of one read. Their bodies share one piece of memory
// and their ids one string, so that a read costs two allocations and not two a message.
type pushes struct {
	sub  *subscription
	list []sealmq.Delivery
	ids  []byte
	ends []int // where in ids each id ends
	mem  []byte
	next sealmq.Delivery // what a line said about the next one
}

// keep copies b to memory that outlives the read buffer; more bytes may follow.
func (p *pushes) keep(b []byte, more int) []byte {
	if cap(p.mem)-len(p.mem) < len(b) {
		p.mem = make([]byte, 0, len(b)+more)
	}
	at := len(p.mem)
	p.mem = append(p.mem, b...)
	return p.mem[at:len(p.mem):len(p.mem)]
}

func (p *pushes) meta(text []byte) (err error) {
	if p.next, err = readMeta(text); err != nil {
		return fmt.Errorf("the broker says of a message what cannot be read: %w", err)
	}
	return nil
}

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
	p.list = append(p.list, p.next)
	d := &p.list[len(p.list)-1]
	d.Queue, d.Body = p.sub.queue, p.keep(text[i+1:], len(rest))
	p.next = sealmq.Delivery{}
	return nil
}

// deliver hands the subscription what has come so far, before the read is done with. The
// caller holds mu.
func (c *Client) deliver() {
	c.stats.Delivered += uint64(len(c.rd.pushes.list))
	c.rd.pushes.deliver()
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
