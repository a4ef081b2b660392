package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
)

// record is a line of a Ledger's file: a revocation, the number of a CRL, or a mark that
// other lists have changed.
type record struct {
	Entry
	// CRLNumber is the number of a CRL that has all revocations up to Covers.
	CRLNumber uint64 `json:"crl_number,omitempty"`
	Covers    uint64 `json:"covers,omitempty"`
	// Lists is the digest of the other lists. It has a Version.
	Lists string    `json:"lists,omitempty"`
	Time  time.Time `json:"time,omitzero"`
}

func (r *record) isRevocation() bool { return r.CRLNumber == 0 && r.Lists == "" }

// Ledger is the durable record of an authority's own revocations: a file to which lines are
// added, and a copy outside the data folder. Changes have numbers that only grow, and so do
// CRLs.
//
// If one of the files lacks what the other has, as the one in the data folder does after a
// backup was restored, nothing is forgotten: OpenLedger combines them, and Gap is what the
// data folder lacked.
//
// A Ledger is not safe for concurrent use. Of several that are open for the same files one
// may append at a time, and it must be opened while nobody else appends.
type Ledger struct {
	fs         durable.FS
	file, copy string

	records []record
	version uint64
	revoked uint64 // number of the last revocation
	crl     uint64
	covers  map[uint64]uint64 // what each CRL has
	lists   record            // the last mark

	gap       []Entry
	copyErr   error
	fileLines [][]byte // what each file has
	copyLines [][]byte
	lines     [][]byte // what both should have
}

// maxLedgerBytes bounds a ledger's file, about 200,000 revocations.
const maxLedgerBytes = 64 << 20

// OpenLedger reads a ledger. Neither file needs to exist. It changes nothing. copy may be
// empty.
func OpenLedger(fs durable.FS, file, copy string) (*Ledger, error) {
	l := &Ledger{fs: fs, file: file, copy: copy, covers: make(map[uint64]uint64)}
	var err, copyErr error
	l.fileLines, err = l.read(file)
	if copy != "" {
		l.copyLines, copyErr = l.read(copy)
	}
	var damage *seal.Error // of damaged
	switch {
	case errors.As(err, &damage) && copyErr == nil && len(l.copyLines) > len(l.fileLines):
		// The copy has the rest, and what follows the damage is written again.
	case err != nil:
		return nil, err
	case errors.As(copyErr, &damage) && len(l.fileLines) > len(l.copyLines):
	case errors.Is(copyErr, os.ErrPermission):
		l.copyErr = copyErr
	case copyErr != nil:
		return nil, copyErr
	}
	return l, l.combine()
}

// read returns the lines of a file, also with the error those before the damage. What was
// never promised is left out: the end of the file from where no line can be read.
func (l *Ledger) read(name string) ([][]byte, error) {
	data, err := durable.ReadFile(l.fs, name, maxLedgerBytes)
	if durable.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the revocations: %w", err)
	}
	lines := bytes.Split(data, []byte("\n"))
	lines = lines[:len(lines)-1]
	for i, line := range lines {
		if err := checkRecord(line); err != nil {
			for _, later := range lines[i+1:] {
				if checkRecord(later) == nil {
					return lines[:i], l.damaged(name, i, err)
				}
			}
			return lines[:i], nil
		}
	}
	return lines, nil
}

func checkRecord(line []byte) error {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	if !r.isRevocation() {
		return nil
	}
	return r.check()
}

// damaged is the error that a line of a file cannot be read.
func (l *Ledger) damaged(name string, line int, err error) *seal.Error {
	other := l.copy
	if name == l.copy {
		other = l.file
	}
	remedy := "restore the file from a backup"
	if other != "" {
		remedy = other + " has the same revocations: copy it over the damaged file"
	}
	return &seal.Error{Kind: fmt.Errorf("the revocations in %s are damaged in line %d", name, line+1), Err: err, Remedy: remedy}
}

// combine finds out what the ledger is from what the two files have.
func (l *Ledger) combine() error {
	same := 0
	for same < min(len(l.fileLines), len(l.copyLines)) && bytes.Equal(l.fileLines[same], l.copyLines[same]) {
		same++
	}
	l.lines = l.fileLines
	if len(l.copyLines) > same {
		l.lines = l.copyLines
	}
	for _, line := range l.lines {
		if err := l.take(line); err != nil {
			return err
		}
	}
	if len(l.copyLines) == same {
		return nil
	}
	for _, line := range l.copyLines[same:] {
		if r := parseRecord(line); r.isRevocation() {
			l.gap = append(l.gap, r.Entry)
		}
	}
	// The two went apart: what was revoked since in the restored folder gets new numbers.
	for _, line := range l.fileLines[same:] {
		r := parseRecord(line)
		if !r.isRevocation() {
			l.crl = max(l.crl, r.CRLNumber)
			continue
		}
		r.Version = l.version + 1
		if err := l.push(r); err != nil {
			return err
		}
	}
	return nil
}

func parseRecord(line []byte) (r record) {
	_ = json.Unmarshal(line, &r) // read has checked it
	return r
}

func (l *Ledger) push(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	l.lines = append(l.lines[:len(l.lines):len(l.lines)], line)
	return l.take(line)
}

// take puts a line into effect.
func (l *Ledger) take(line []byte) error {
	r := parseRecord(line)
	switch {
	case r.CRLNumber != 0:
		if r.CRLNumber <= l.crl {
			return fmt.Errorf("%s: CRL number %d behind %d", l.file, r.CRLNumber, l.crl)
		}
		l.crl, l.covers[r.CRLNumber] = r.CRLNumber, r.Covers
		return nil
	case r.Version <= l.version:
		return fmt.Errorf("%s: number %d behind %d", l.file, r.Version, l.version)
	case r.Lists != "":
		l.lists = r
	default:
		l.revoked = r.Version
	}
	l.version = r.Version
	l.records = append(l.records, r)
	return nil
}

// Version is the number of the last change.
func (l *Ledger) Version() uint64 { return l.version }

// Revoked is the number of the last revocation.
func (l *Ledger) Revoked() uint64 { return l.revoked }

// CRL returns the number of the last CRL, 0 if there is none.
func (l *Ledger) CRL() uint64 { return l.crl }

// Covers returns the number of the last revocation that the CRL with a number has.
func (l *Ledger) Covers(number *big.Int) (revoked uint64, ok bool) {
	if !number.IsUint64() {
		return 0, false
	}
	revoked, ok = l.covers[number.Uint64()]
	return revoked, ok
}

// Entries returns all revocations in the order of their numbers.
func (l *Ledger) Entries() []Entry {
	entries := make([]Entry, 0, len(l.records))
	for _, r := range l.records {
		if r.isRevocation() {
			entries = append(entries, r.Entry)
		}
	}
	return entries
}

// Gap is what the data folder lacked when the ledger was opened. The entries are in effect.
func (l *Ledger) Gap() []Entry { return l.gap }

// CopyErr says why there is no copy outside the data folder, or nil if there is one.
func (l *Ledger) CopyErr() error { return l.copyErr }

// Append revokes: it numbers the entries and returns them when they are on stable storage.
func (l *Ledger) Append(entries ...Entry) ([]Entry, error) {
	numbered := make([]Entry, 0, len(entries))
	for _, e := range entries {
		e.Version = l.version + 1
		if err := e.check(); err != nil {
			return nil, err
		}
		if err := l.push(record{Entry: e}); err != nil {
			return nil, err
		}
		numbered = append(numbered, e)
	}
	return numbered, l.Save()
}

// NextCRL returns the number for a CRL that has all revocations.
func (l *Ledger) NextCRL(now time.Time) (uint64, error) {
	err := l.push(record{CRLNumber: l.crl + 1, Covers: l.revoked, Time: now.UTC().Truncate(time.Second)})
	if err != nil {
		return 0, err
	}
	return l.crl, l.Save()
}

// NoteLists gives a number to a change of the other lists, which have the digest now.
func (l *Ledger) NoteLists(digest string) error {
	if l.lists.Lists == digest {
		return nil
	}
	if err := l.push(record{Entry: Entry{Version: l.version + 1}, Lists: digest}); err != nil {
		return err
	}
	return l.Save()
}

// Save writes what the files lack. The copy comes first: what it has is never lost by
// restoring the folder.
func (l *Ledger) Save() error {
	if l.copy != "" {
		l.copyErr = l.write(l.copy, &l.copyLines)
	}
	if err := l.write(l.file, &l.fileLines); err != nil {
		return fmt.Errorf("write the revocations: %w", err)
	}
	return nil
}

// write adds to a file what it lacks, or replaces it in one step if that is not at its end.
func (l *Ledger) write(name string, has *[][]byte) error {
	if len(*has) == len(l.lines) && sameLines(*has, l.lines) {
		return nil
	}
	join := func(lines [][]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }
	var err error
	if len(*has) > 0 && sameLines(*has, l.lines) {
		err = durable.Append(l.fs, name, int64(len(join(*has))), join(l.lines[len(*has):]))
	} else if err = durable.MkdirAll(l.fs, filepath.Dir(name), 0o700); err == nil {
		err = durable.WriteFile(l.fs, name, join(l.lines), 0o600)
	}
	if err == nil {
		*has = l.lines
	}
	return err
}

// sameLines reports whether long begins with short.
func sameLines(short, long [][]byte) bool {
	return len(short) <= len(long) && slices.EqualFunc(short, long[:len(short)], bytes.Equal)
}
