package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
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
}

func (f *storeFiles) path(name string) string { return filepath.Join(f.dir, name) }

func (f *storeFiles) write(name string, b []byte) error {
	return durable.WriteFile(f.fs, f.path(name), b, 0o600)
}

func (f *storeFiles) remove(name string) error { return f.fs.Remove(f.path(name)) }

// read reads a whole file, into buf if it is large enough.
func (f *storeFiles) read(buf []byte, name string) ([]byte, error) {
	file, err := f.fs.OpenFile(f.path(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path(name), err)
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", f.path(name), err)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size+size/8)
	}
	b := buf[:size]
	if _, err := file.ReadAt(b, 0); err != nil && err != io.EOF {
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

// undecoded names the file that could not be decoded, and tells damage from a newer version.
func (f *storeFiles) undecoded(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, journal.ErrNewer):
		return fmt.Errorf("%s: %w", f.path(name), err)
	}
	return damaged(f.path(name), err.Error())
}

// The checkpoint and the definitions are framed: 8 bytes that name the kind of file,
// version 4, store id 16, content, crc32c of all before 4.
const frameHeader = 8 + 4 + 16

// frame begins a framed file.
func (f *storeFiles) frame(magic [8]byte, version uint32) []byte {
	b := append([]byte{}, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, version)
	return append(b, f.storeID[:]...)
}

func (f *storeFiles) writeFramed(name string, b []byte) error {
	return f.write(name, binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
}

// readFramed returns the content of a framed file.
func (f *storeFiles) readFramed(name string, magic [8]byte, version uint32) ([]byte, error) {
	b, err := f.read(nil, name)
	if err != nil {
		return nil, err
	}
	if len(b) < frameHeader+4 || [8]byte(b[:8]) != magic {
		return nil, damaged(f.path(name), fmt.Sprintf("it does not begin with %q", magic[:]))
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, damaged(f.path(name), "its checksum does not match")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > version {
		return nil, fmt.Errorf("%s: format %d, this program reads up to %d: %w", f.path(name), v, version, journal.ErrNewer)
	}
	if [16]byte(b[12:28]) != f.storeID {
		return nil, damaged(f.path(name), "it belongs to another store")
	}
	return b[frameHeader : len(b)-4], nil
}
