package journal

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

var testID = [16]byte{1, 2, 3}

// FuzzDecodeRecord: whatever the bytes are, the decoder stays within them, and what it
// takes for a record is one that was encoded, in this life of this segment.
func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add(make([]byte, 64), uint64(1))
	f.Add(appendRecord(nil, generationSum(testID, 7), 1, FirstKind, []byte("abc"), nil), uint64(7))
	f.Add(appendVoid(nil, generationSum(testID, 7), 40, 9, 2), uint64(7))
	f.Fuzz(func(t *testing.T, b []byte, gen uint64) {
		sum := generationSum(testID, gen)
		if off, r := findRecord(b, 0, sum, 1, false); off >= 0 && r.Bytes() > len(b)-off {
			t.Fatalf("a record of %d bytes was found in %d", r.Bytes(), len(b)-off)
		}
		r, ok := decodeRecord(b, sum)
		if !ok {
			return
		}
		n := recordHeaderBytes + len(r.Payload)
		if again := appendRecord(nil, sum, r.Seq, r.Kind, r.Payload, nil); !bytes.Equal(again[:n], b[:n]) {
			t.Fatalf("decoded %x, which encodes to %x", b[:n], again[:n])
		}
		if _, ok := decodeRecord(b, generationSum(testID, gen+1)); ok {
			t.Fatal("it is also valid in the next life of the segment")
		}
	})
}

// TestLeftoversAreNotTorn: a segment that is used again still has the marks of its earlier
// life, whose bytes, read from within, may be the sequence that comes next.
func TestLeftoversAreNotTorn(t *testing.T) {
	for gen := uint64(1); gen < 1000; gen++ {
		buf := make([]byte, 2*markBytes)
		fillMark(buf, generationSum(testID, gen), 12345, gen, position(gen, pageBytes))
		sc := &scanner{next: gen<<8 | uint64(kindMark)}
		for off := int64(recordAlign); off < markBytes; off += recordAlign {
			if n := sc.torn(&segment{gen: gen + 1, sum: generationSum(testID, gen+1)}, buf, off); n > 0 {
				t.Errorf("%d bytes at %d of a mark of generation %d are taken for record %d", n, off, gen, sc.next)
			}
		}
	}
}

func TestRecordsDecodeAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.Uint64Min(1).Draw(t, "generation")
		seq := rapid.Uint64().Draw(t, "sequence")
		kind := rapid.Byte().Draw(t, "kind")
		payload := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		rest := rapid.SliceOf(rapid.Byte()).Draw(t, "rest")
		cut := rapid.IntRange(0, len(payload)).Draw(t, "cut")

		sum := generationSum(testID, gen)
		b := appendRecord(nil, sum, seq, kind, payload[:cut], payload[cut:])
		if len(b) != RecordBytes(len(payload)) {
			t.Fatalf("%d bytes, want %d", len(b), RecordBytes(len(payload)))
		}
		r, ok := decodeRecord(append(b, rest...), sum)
		if !ok || r.Seq != seq || r.Kind != kind || !bytes.Equal(r.Payload, payload) || r.Bytes() != len(b) {
			t.Fatalf("decoded as %+v", r)
		}
		for n := range len(b) {
			if _, ok := decodeRecord(b[:n], sum); ok {
				t.Fatalf("%d of %d bytes are taken for a record", n, len(b))
			}
		}
		other := testID
		other[0]++
		if _, ok := decodeRecord(b, generationSum(other, gen)); ok {
			t.Fatal("it is valid in another store")
		}
	})
}

// TestZerosAreNoRecord: a segment that was never written holds nothing, in no life.
func TestZerosAreNoRecord(t *testing.T) {
	for gen := range uint64(1000) {
		for n := range 64 {
			if _, ok := decodeRecord(make([]byte, n), generationSum(testID, gen)); ok {
				t.Fatalf("%d zeros are a record in generation %d", n, gen)
			}
		}
	}
}
