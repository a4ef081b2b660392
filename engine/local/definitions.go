package local

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

const (
	definitionsPrefix  = "definitions-"
	definitionsVersion = 1
)

var definitionsMagic = [8]byte{'S', 'E', 'A', 'L', 'M', 'Q', 'D', 'F'}

// definitions are what a definitions file holds: everything that was declared or defined.
type definitions struct {
	nextID        uint32
	neverDeclared []uint32
	queues        []declared
	defs          []engine.Definition
}

// declared is a queue without its messages.
type declared struct {
	id      uint32
	name    string
	options sealmq.QueueOptions
}

func definitionsName(n uint64) string { return fmt.Sprintf("%s%d", definitionsPrefix, n) }

func definitionsNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, definitionsPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

func (f *storeFiles) writeDefinitions(n uint64, c *definitions) error {
	return f.writeFramed(definitionsName(n), c.appendTo(f.frame(definitionsMagic, definitionsVersion)))
}

func (f *storeFiles) readDefinitions(n uint64) (*definitions, error) {
	b, err := f.readFramed(definitionsName(n), definitionsMagic, definitionsVersion)
	if err != nil {
		return nil, err
	}
	c, err := decodeDefinitionsFile(b)
	return c, f.undecoded(definitionsName(n), err)
}

func (c *definitions) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.nextID))
	b = binary.AppendUvarint(b, uint64(len(c.neverDeclared)))
	for _, id := range c.neverDeclared {
		b = binary.AppendUvarint(b, uint64(id))
	}
	b = binary.AppendUvarint(b, uint64(len(c.queues)))
	for _, q := range c.queues {
		b = appendQueue(b, q.id, q.name, q.options)
	}
	return encodeDefinitions(b, c.defs)
}

func decodeDefinitionsFile(b []byte) (*definitions, error) {
	d := decoder{b: b}
	c := &definitions{nextID: uint32(d.uvarint())}
	for range d.count(1) {
		c.neverDeclared = append(c.neverDeclared, uint32(d.uvarint()))
	}
	for range d.count(3) {
		id, name, o := d.queue()
		c.queues = append(c.queues, declared{id, name, o})
	}
	if d.err != nil {
		return nil, d.err
	}
	var err error
	c.defs, err = decodeDefinitions(d.b)
	return c, err
}
