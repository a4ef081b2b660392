package local

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/engine"
)

const definitionsPrefix = "definitions-"

var definitionsKind = framed{[8]byte([]byte("SEALMQDF")), 1}

// definitions are what a definitions file holds: everything that was declared or defined.
type definitions struct {
	nextID        uint32
	neverDeclared []uint32
	queues        []*queue // their names and options
	defs          []engine.Definition
}

func definitionsName(n uint64) string { return fmt.Sprintf("%s%d", definitionsPrefix, n) }

func definitionsNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, definitionsPrefix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

func (f *storeFiles) writeDefinitions(n uint64, c *definitions) error {
	return f.writeFramed(definitionsName(n), definitionsKind, c.appendTo)
}

func (f *storeFiles) readDefinitions(n uint64) (*definitions, error) {
	return readFramed(f, definitionsName(n), definitionsKind, decodeDefinitionsFile)
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
		c.queues = append(c.queues, newQueue(d.queue()))
	}
	if d.err != nil {
		return nil, d.err
	}
	var err error
	c.defs, err = decodeDefinitions(d.b)
	return c, err
}
