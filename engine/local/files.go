package local

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"path/filepath"
	"slices"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// storeFiles are the files of a store beside its journal: its identity, the checkpoint, the
// definitions, the index files and the ballast. What a method reads is whole and belongs to
// the store. Otherwise the error says which it is: durable.IsNotExist for a missing file,
// *journal.DamageError for a damaged one, journal.ErrNewer for one that a newer version
// wrote. Any other error is one of reading and may pass.
type storeFiles struct {
	fs      durable.FS
	dir     string
	storeID [16]byte
	hashKey hashKey
	older   bool // store.json has an older format
}

func (f *storeFiles) path(name string) string { return filepath.Join(f.dir, name) }

func (f *storeFiles) write(name string, b []byte) error {
	return durable.WriteFile(f.fs, f.path(name), b, 0o600)
}

func (f *storeFiles) remove(name string) error { return f.fs.Remove(f.path(name)) }

func (f *storeFiles) read(name string) ([]byte, error) {
	b, err := durable.ReadFile(f.fs, f.path(name), math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path(name), err)
	}
	return b, nil
}

// list returns which index files and definitions files exist, in ascending order.
func (f *storeFiles) list() (index, definitions []uint64, err error) {
	names, err := f.fs.ReadDir(f.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read store folder: %w", err)
	}
	for _, name := range names {
		if gen, ok := indexGeneration(name); ok {
			index = append(index, gen)
		}
		if n, ok := definitionsNumber(name); ok {
			definitions = append(definitions, n)
		}
	}
	slices.Sort(index)
	slices.Sort(definitions)
	return index, definitions, nil
}

// damaged is an error about a whole file.
func damaged(file, reason string) *journal.DamageError {
	return &journal.DamageError{Damage: []*journal.Damage{{File: file, Promised: true, Reason: reason}}}
}

// framed is a kind of file with a frame: its magic, version 4, store id 16, content, crc32c
// of all before 4.
type framed struct {
	magic   [8]byte
	version uint32
}

const frameHeader = 8 + 4 + 16

func (f *storeFiles) writeFramed(name string, kind framed, content func(dst []byte) []byte) error {
	b := binary.LittleEndian.AppendUint32(kind.magic[:], kind.version)
	b = content(append(b, f.storeID[:]...))
	return f.write(name, binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
}

// readFramed reads a framed file and decodes its content.
func readFramed[T any](f *storeFiles, name string, kind framed, decode func(version uint32, content []byte) (*T, error)) (*T, error) {
	b, err := f.read(name)
	if err != nil {
		return nil, err
	}
	n := len(b) - 4
	switch {
	case n < frameHeader || [8]byte(b[:8]) != kind.magic:
		return nil, damaged(f.path(name), fmt.Sprintf("it does not begin with %q", kind.magic[:]))
	case crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]):
		return nil, damaged(f.path(name), "its checksum does not match")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > kind.version {
		return nil, fmt.Errorf("%s: format %d, this program reads up to %d: %w", f.path(name), v, kind.version, journal.ErrNewer)
	}
	if [16]byte(b[12:28]) != f.storeID {
		return nil, damaged(f.path(name), "it belongs to another store")
	}
	out, err := decode(binary.LittleEndian.Uint32(b[8:]), b[frameHeader:n])
	if err != nil {
		return nil, damaged(f.path(name), err.Error())
	}
	return out, nil
}
