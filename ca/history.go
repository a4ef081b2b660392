package ca

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
)

// Source says by which way a certificate was asked for.
type Source string

// The sources.
const (
	SourceCLI Source = "cli"
	SourceAPI Source = "api"
	SourceCSR Source = "csr"
	// SourceToken is an enrolment token, SourceRenewal the holder of a certificate.
	SourceToken   Source = "token"
	SourceRenewal Source = "renewal"
)

// Issued is the record of one certificate. Records are only ever added.
type Issued struct {
	Serial      string      `json:"serial"`
	Name        string      `json:"name"`
	Role        sealmq.Role `json:"role"`
	Domain      string      `json:"domain,omitempty"`
	NotBefore   time.Time   `json:"not_before"`
	NotAfter    time.Time   `json:"not_after"`
	Fingerprint string      `json:"fingerprint"`
	// Hosts are the host names and addresses in it.
	Hosts []string `json:"hosts,omitempty"`
	// Signer is mtls.Issuer of the certificate that signed.
	Signer string `json:"signer"`
	// Key is the SHA-256 of the public key.
	Key      string    `json:"key"`
	IssuedAt time.Time `json:"issued_at"`
	IssuedBy string    `json:"issued_by,omitempty"`
	Source   Source    `json:"source,omitempty"`
	// RenewUntil is until when its holder may renew it; zero is what RenewableUntil says.
	RenewUntil time.Time `json:"renew_until,omitzero"`
	// Supersedes are the serial numbers of the certificates that this one replaces. They
	// stay valid unless they are revoked.
	Supersedes []string `json:"supersedes,omitempty"`
	// SupersededBy is the serial number of the certificate that replaced this one. It is
	// not stored.
	SupersededBy string `json:"-"`
}

// RenewableUntil is until when the holder may renew a certificate without a person's decision.
func (c *Issued) RenewableUntil() time.Time {
	if c.RenewUntil.IsZero() {
		return c.IssuedAt.Add(DefaultRenewFor)
	}
	return c.RenewUntil
}

const (
	// MaxIssued bounds the record of issued certificates.
	MaxIssued       = 1_000_000
	maxHistoryBytes = 1 << 30
)

// history is the record of issued certificates in memory. Other processes may add to its file
// at any time, so it is brought up to date before each use.
type history struct {
	list     []Issued
	bySerial map[string]int
	byName   map[string][]int
	bare     int   // lines without a checksum, of older programs
	size     int64 // of what was read, up to the end of a line
}

// refresh reads what is new in the file.
func (h *history) refresh(fs durable.FS, name string) error {
	size, data, err := tail(fs, name, h.size)
	if err == nil && size < h.size { // another file is in its place
		*h = history{}
		_, data, err = tail(fs, name, 0)
	}
	if err != nil {
		return fmt.Errorf("read the record of certificates: %w", err)
	}
	if h.bySerial == nil {
		h.bySerial, h.byName = make(map[string]int), make(map[string][]int)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for i, line := range lines[:len(lines)-1] {
		var c Issued
		if err := json.Unmarshal(line, &c); err != nil || c.Serial == "" || !sumFits(line) {
			if slices.ContainsFunc(lines[i+1:], func(l []byte) bool { return json.Valid(l) }) {
				return &hintError{fmt.Sprintf("the record of certificates %s is damaged behind byte %d", name, h.size),
					"restore the file from a backup, or delete the damaged line"}
			}
			return nil // its end was never promised, or checkCount notices
		}
		h.add(c)
		h.size += int64(len(line))
		if !bytes.Contains(line, []byte(sumMark)) {
			h.bare++
		}
	}
	return nil
}

// A line ends with a checksum of what is before it; those of older programs have none.
const sumMark = `,"sum":"`

// withSum is the line of a record.
func withSum(object []byte) []byte {
	object = bytes.TrimSuffix(object, []byte("}"))
	return fmt.Appendf(object, "%s%08x\"}\n", sumMark, crc32.Checksum(object, castagnoli))
}

func sumFits(line []byte) bool {
	i := bytes.LastIndex(line, []byte(sumMark))
	return i < 0 || bytes.Equal(line, withSum(append(bytes.Clone(line[:i]), '}')))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkCount compares the record with the numbers of its lines, and of those without a checksum, that
// append has noted. So lines are missed that are lost at its end. The caller holds the folder's lock. Folders of older programs have no
// such file.
func (h *history) checkCount(fs durable.FS, name string) error {
	text, err := durable.ReadFile(fs, countFile(name), 64)
	if durable.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var lines, bare int
	if _, err := fmt.Sscan(string(text), &lines, &bare); err == nil && lines <= len(h.list) && bare == h.bare {
		return nil
	}
	return &hintError{fmt.Sprintf("the record of certificates %s has %d lines, %d of them without a checksum, and in %s stands %q", name, len(h.list), h.bare, countFile(name), strings.TrimSpace(string(text))),
		"restore both files from a backup, or delete the second to go on with the lines that are there: what is missing can be revoked by its serial number only"}
}

func countFile(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) + ".count" }

// tail returns the size of a file and its content from an offset on.
func tail(fs durable.FS, name string, from int64) (size int64, data []byte, err error) {
	f, err := fs.OpenFile(name, 0, 0)
	if durable.IsNotExist(err) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	if size, err = f.Size(); err != nil || size <= from {
		return size, nil, err
	}
	if size > maxHistoryBytes {
		return size, nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", name, size, maxHistoryBytes)
	}
	data = make([]byte, size-from)
	if n, err := f.ReadAt(data, from); err != nil && !(errors.Is(err, io.EOF) && n == len(data)) {
		return size, nil, err
	}
	return size, data, nil
}

func (h *history) add(c Issued) {
	for _, serial := range c.Supersedes {
		if i, ok := h.bySerial[serial]; ok {
			h.list[i].SupersededBy = c.Serial
		}
	}
	h.bySerial[c.Serial] = len(h.list)
	h.byName[c.Name] = append(h.byName[c.Name], len(h.list))
	h.list = append(h.list, c)
}

// of returns the certificates of a name, oldest first.
func (h *history) of(name string) []Issued {
	var list []Issued
	for _, i := range h.byName[name] {
		list = append(list, h.list[i])
	}
	return list
}

// append adds records and returns when they are on stable storage.
func (h *history) append(fs durable.FS, name string, list ...Issued) error {
	if len(h.list)+len(list) > MaxIssued {
		return fmt.Errorf("%d certificates were issued, and %d is the limit", len(h.list), MaxIssued)
	}
	var lines []byte
	for _, c := range list {
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		lines = append(lines, withSum(line)...)
	}
	if err := durable.MkdirAll(fs, filepath.Dir(name), 0o700); err != nil {
		return err
	}
	if err := durable.Append(fs, name, h.size, lines); err != nil {
		return fmt.Errorf("record the certificate: %w", err)
	}
	for _, c := range list {
		h.add(c)
	}
	h.size += int64(len(lines))
	return durable.WriteFile(fs, countFile(name), fmt.Appendln(nil, len(h.list), h.bare), 0o600)
}

// History returns what was issued, oldest first.
func (a *Authority) History() ([]Issued, error) {
	list, _, err := a.IssuedFrom(0)
	return list, err
}

// HistoryOf is History for the certificates of one name.
func (a *Authority) HistoryOf(name string) ([]Issued, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.history.refresh(a.options.FS, a.paths.Issued); err != nil {
		return nil, err
	}
	return a.history.of(name), nil
}

// IssuedFrom is History without the first n, and how many there are. There may be fewer than n, if
// another record was put in this one's place.
func (a *Authority) IssuedFrom(n int) (list []Issued, total int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.history.refresh(a.options.FS, a.paths.Issued); err != nil {
		return nil, 0, err
	}
	total = len(a.history.list)
	return slices.Clone(a.history.list[min(n, total):]), total, nil
}

// AdoptIssued puts on record what another copy of this authority has issued, and returns how many
// certificates were new.
func (a *Authority) AdoptIssued(list []Issued) (added int, err error) {
	unlock, err := a.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	list = slices.DeleteFunc(slices.Clone(list), func(c Issued) bool {
		_, has := a.history.bySerial[c.Serial]
		return has || c.Serial == "" || c.Name == ""
	})
	if len(list) == 0 {
		return 0, nil
	}
	return len(list), a.history.append(a.options.FS, a.paths.Issued, list...)
}
