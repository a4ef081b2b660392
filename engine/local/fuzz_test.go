package local

import (
	"bytes"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// FuzzDecode: whatever the bytes are, decoders stay within them, and a message that
// decodes is the same after encoding it again.
func FuzzDecode(f *testing.F) {
	m := messageRecord{flags: flagHash | flagMoved, published: 5, arrived: 7, fromQueue: 1, fromSeq: 2, deathReason: "r",
		deathQueue: "q", hash: contentHash{1, 2}, copies: []copyRef{{1, 2}, {3, 4}}, publisher: "p", exchange: "x", key: "k",
		id: "id", properties: []byte("props")}
	f.Add(append(m.appendHead(nil), "body"...))
	f.Add(encodeDefinitions(nil, []engine.Definition{{Key: "k", Value: []byte("v")}, {Key: "gone"}}))
	f.Add(appendQueue(nil, 7, "queue", sealmq.QueueOptions{}.Normalize(), true))
	f.Add(appendReturn(nil, copyRef{1, 2}, mark{attempts: 3, until: 4, reason: "r"}))
	f.Add((&checkpoint{at: 5 << 32, seq: 9, definitions: 2, queues: []queueState{{id: 1, next: 9, live: []seqRange{{1, 4}, {6, 7}},
		marks: map[uint64]mark{3: {attempts: 2}}}}}).appendTo(nil))
	f.Add((&definitions{nextID: 3, neverDeclared: []uint32{1}, defs: []engine.Definition{{Key: "k"}}}).appendTo(nil, [16]byte{}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMessage(b, nil); err == nil {
			again, err := decodeMessage(append(m.appendHead(nil), m.body...), nil)
			if err != nil || again.id != m.id || !bytes.Equal(again.body, m.body) || again.arrived != m.arrived ||
				len(again.copies) != len(m.copies) {
				t.Fatalf("%+v became %+v: %v", m, again, err)
			}
		}
		seen := 0
		_ = decodeSettle(b, func(copyRef) { seen++ })
		_ = decodeReturn(b, func(copyRef, mark) { seen++ })
		_ = decodeIndex(1, b, func(n *indexEntry) { seen += 1 + len(n.copies) })
		if seen > 3*len(b) {
			t.Fatalf("%d things were found in %d bytes", seen, len(b))
		}
		if defs, err := decodeDefinitions(b); err == nil && len(defs) > len(b) {
			t.Fatalf("%d definitions in %d bytes", len(defs), len(b))
		}
		d := decoder{b: b}
		d.queue()
		_, _ = decodeCheckpoint(1, b)
		_, _ = decodeDefinitions1(b)
		decodeEntries(b, [16]byte{})
	})
}

// FuzzReplay opens a store whose journal holds any records. It must refuse them or work.
func FuzzReplay(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte("\x03\x05\x01\x00\x01q\x00\x00\x06\x01\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		fs := faultfs.New()
		cfg := Config{Dir: "store", FS: fs, SegmentBytes: 16 << 10, Quarantine: true, Clock: fakeclock.New(time.Unix(1e9, 0))}
		e, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		e.DeclareQueue("q", sealmq.QueueOptions{}, 0, func(_ engine.QueueInfo, _ bool, err error) { answered <- err })
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		id := e.files.storeID
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, fs, id)
		for len(script) >= 2 { // a kind, a length, and that many bytes
			n := min(int(script[1]), len(script)-2)
			_, _ = j.Append(true, journal.FirstKind+script[0]%8, script[2:2+n], nil)
			script = script[2+n:]
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if e, err = Open(cfg); err != nil {
			return
		}
		e.Publish([]engine.Publish{{Message: sealmq.Message{ID: "new", Body: []byte("b")}, Queues: []string{"q"}}},
			func([]engine.PublishResult) { answered <- nil })
		<-answered
		s := e.NewSession(engine.SessionConfig{})
		s.Consume("q", engine.ConsumeOptions{Prefetch: 10}, func(error) {})
		if _, err := s.Take(nil, 100, 1<<20); err != nil {
			t.Log(err)
		}
		s.Close(true)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if e, err = Open(cfg); err != nil {
			t.Fatalf("it does not open again: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
