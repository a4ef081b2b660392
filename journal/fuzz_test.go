package journal_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// forge changes the files of a journal as a script says. Of four bytes each, the first
// says what is done, the next two where, the last is an operand:
//
//	0 set a byte          1 set a byte and make the record around it valid again
//	2 fill a page         3 cut the file off      4 copy a page to another place
//
// Making records valid again lets a fuzzer get past their checksums.
func forge(fs *faultfs.FS, script []byte) {
	names := fs.Files()
	for ; len(script) >= 4 && len(names) > 0; script = script[4:] {
		name := names[int(script[0]>>3)%len(names)]
		b := fs.Get(name)
		if len(b) < firstOffset {
			continue
		}
		at, v := int(binary.LittleEndian.Uint16(script[1:]))%len(b), script[3]
		switch script[0] & 7 {
		case 0:
			b[at] = v
		case 1:
			b[at] = v
			makeValid(b, at)
		case 2:
			for i := at &^ 511; i < min(len(b), at&^511+512*(1+int(v)%9)); i++ {
				b[i] = v
			}
		case 3:
			b = b[:at]
		case 4:
			copy(b[int(v)%(len(b)/512)*512:], b[at&^511:min(len(b), at&^511+1024)])
		default:
			continue
		}
		fs.Put(name, b)
	}
}

// makeValid recomputes the checksum of the record that a byte belongs to, if it is none
// of its length, so that records still lie one behind the other.
func makeValid(b []byte, at int) {
	table := crc32.MakeTable(crc32.Castagnoli)
	start := crc32.Update(crc32.Checksum(testStoreID[:], table), table, b[16:24])
	for off := firstOffset; off+17 <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[off+4:]))
		if n < 17 || n > len(b)-off {
			return
		}
		if at < off+n {
			if at < off+4 || at >= off+8 {
				binary.LittleEndian.PutUint32(b[off:], crc32.Update(start, table, b[off+4:off+n]))
			}
			return
		}
		off += (n + 7) &^ 7
	}
}

// FuzzRecovery opens forged journals. Whatever is in the files, opening them must end
// with an error or with a journal that works, and what was repaired must stay repaired.
func FuzzRecovery(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0x10, 0x10, 2, 9, 0x08, 0x10, 0xff}) // kind becomes void, sequence becomes large
	f.Add([]byte{2, 0x00, 0x20, 0, 11, 0x00, 0x28, 0})
	f.Add([]byte{4, 0x00, 0x10, 0x18, 20, 0x00, 0x00, 0x10})
	base := faultfs.New()
	l := newLedger()
	for range 2 {
		j, found, err := l.open(l.config(base))
		if err != nil {
			f.Fatal(err)
		}
		l.adopt(found)
		if err := errors.Join(l.run(f.Context(), j, newRand(8), 40), j.Close()); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		fs := base.Snapshot()
		forge(fs, script)
		cfg := l.config(fs)
		cfg.SegmentBytes = journal.MinSegmentBytes
		report, err := inspect(fs, cfg.Dir, l.from, l.fromSeq, func(journal.Record) error { return nil })
		if err == nil && report == nil {
			t.Fatal("no report")
		}
		own := l.clone()
		own.forged = true
		j, found, err := own.open(cfg)
		var refused *journal.DamageError
		if errors.As(err, &refused) {
			cfg.Quarantine = true
			j, found, err = own.open(cfg)
		}
		if err != nil {
			return
		}
		own.adopt(found)
		own.from, own.fromSeq = j.Applied()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := own.survives(fs, newRand(1)); err != nil {
			t.Fatal(err)
		}
	})
}
