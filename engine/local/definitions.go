package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

const definitionsPrefix = "definitions-"

// The content of a definitions file is made of entries, so that damage costs those that it
// touches: crc32c of the store's id and what follows 4, length of the payload 4, kind 1, payload,
// zeros up to a multiple of 8. Version 1 had everything in one piece; version 2 had no owners.
const definitionsVersion = 3

var definitionsKind = framed{[8]byte([]byte("SEALMQDF")), definitionsVersion}

// Kinds of entries. The summary is the first entry and the last one.
const (
	entrySummary byte = iota + 1 // next id, never declared ids, how many other entries there are
	entryQueue
	entryDefinition
)

const entryHeader = 4 + 4 + 1

// definitions are what a definitions file holds: everything that was declared or defined.
type definitions struct {
	nextID        uint32
	neverDeclared []uint32
	queues        []*queue // their names and options, and which are paused
	defs          []engine.Definition
	// Of a file: how many queues and definitions were read, and how many there were.
	entries, total int
}

func definitionsName(n uint64) string { return fmt.Sprintf("%s%d", definitionsPrefix, n) }

func definitionsNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, definitionsPrefix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

// readDefinitions returns with damage what is intact, or nil if that cannot be told.
func (f *storeFiles) readDefinitions(n uint64) (*definitions, error) {
	name := definitionsName(n)
	version := uint32(0)
	c, err := readFramed(f, name, definitionsKind, func(v uint32, b []byte) (*definitions, error) {
		if version = v; v == 1 {
			return decodeDefinitions1(b)
		}
		return decodeEntries(b, f.storeID), nil
	})
	if _, ok := errors.AsType[*journal.DamageError](err); !ok || version != 0 {
		return c, err
	}
	b, readErr := f.read(name)
	if readErr != nil || len(b) < frameHeader {
		return nil, err
	}
	if c = decodeEntries(b[frameHeader:], f.storeID); c.entries == 0 {
		return nil, err
	}
	return c, err
}

func (c *definitions) appendTo(b []byte, storeID [16]byte) []byte {
	entry := func(kind byte, payload []byte) {
		at := len(b)
		b = binary.LittleEndian.AppendUint32(append(b, 0, 0, 0, 0), uint32(len(payload)))
		b = append(append(b, kind), payload...)
		binary.LittleEndian.PutUint32(b[at:], entrySum(storeID, b[at+4:]))
		b = append(b, make([]byte, padTo8(len(b)-at)-(len(b)-at))...)
	}
	summary := binary.AppendUvarint(nil, uint64(c.nextID))
	summary = binary.AppendUvarint(summary, uint64(len(c.neverDeclared)))
	for _, id := range c.neverDeclared {
		summary = binary.AppendUvarint(summary, uint64(id))
	}
	summary = binary.AppendUvarint(summary, uint64(len(c.queues)+len(c.defs)))
	entry(entrySummary, summary)
	for _, q := range c.queues {
		entry(entryQueue, appendQueue(nil, q.id, q.name, q.options, q.paused))
	}
	for i := range c.defs {
		entry(entryDefinition, encodeDefinitions(nil, c.defs[i:i+1]))
	}
	entry(entrySummary, summary)
	return b
}

func entrySum(storeID [16]byte, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(storeID[:], castagnoli), castagnoli, b)
}

// decodeEntries decodes the entries that are intact. What looks like an entry at another place
// belongs to another store, or is within one.
func decodeEntries(b []byte, storeID [16]byte) *definitions {
	c := &definitions{}
	for off := 0; off+entryHeader <= len(b); {
		e := b[off:]
		n := int64(entryHeader) + int64(binary.LittleEndian.Uint32(e[4:]))
		if n > int64(len(e)) || entrySum(storeID, e[4:n]) != binary.LittleEndian.Uint32(e) {
			off += 8
			continue
		}
		c.decodeEntry(e[8], e[entryHeader:n])
		off += padTo8(int(n))
	}
	return c
}

func (c *definitions) decodeEntry(kind byte, payload []byte) {
	d := decoder{b: payload}
	switch kind {
	case entrySummary:
		c.nextID = uint32(d.uvarint())
		c.neverDeclared = nil
		for range d.count(1) {
			c.neverDeclared = append(c.neverDeclared, uint32(d.uvarint()))
		}
		c.total = int(d.uvarint())
	case entryQueue:
		if q := d.queue(); d.err == nil {
			c.entries++
			c.queues = append(c.queues, q)
		}
	case entryDefinition:
		if defs, err := decodeDefinitions(bytes.Clone(payload)); err == nil {
			c.entries++
			c.defs = append(c.defs, defs...)
		}
	}
}

// decodeDefinitions1 decodes the content of version 1.
func decodeDefinitions1(b []byte) (*definitions, error) {
	d := decoder{b: b}
	c := &definitions{nextID: uint32(d.uvarint())}
	for range d.count(1) {
		c.neverDeclared = append(c.neverDeclared, uint32(d.uvarint()))
	}
	for range d.count(3) {
		c.queues = append(c.queues, d.queue())
	}
	if d.err != nil {
		return nil, d.err
	}
	var err error
	c.defs, err = decodeDefinitions(d.b)
	return c, err
}
