package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// MaxListBytes bounds a revocation list, about 30,000 entries.
const MaxListBytes = 4 << 20

// lookEvery is how often the file is read. It leaves most of the second within which a
// revocation acts to closing connections.
const lookEvery = 250 * time.Millisecond

// RevocationList is the list of revoked certificates in a file; parseList describes the
// format. It implements mtls.Revocation.
//
// The content of the file decides what is revoked, not its time or size. If it cannot be
// used, the last good list stays in force, Err says why, and the log says it once.
type RevocationList struct {
	file    string
	log     *slog.Logger
	entries atomic.Pointer[map[string]bool]

	content []byte // of the list in force, or nil; OpenRevocationList's and Watch's

	mu  sync.Mutex
	err error // why the file is not in force
}

// OpenRevocationList reads the list in a file; what cannot be read is an error. If the
// file may be missing, nothing is revoked until it appears.
func OpenRevocationList(file string, mayBeMissing bool, log *slog.Logger) (*RevocationList, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &RevocationList{file: file, log: log}
	l.entries.Store(&map[string]bool{})
	data, err := durable.ReadFile(durable.OS(), file, MaxListBytes)
	if errors.Is(err, fs.ErrNotExist) && mayBeMissing {
		return l, nil
	}
	if err == nil {
		_, err = l.take(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	return l, nil
}

// Check implements mtls.Revocation. The last certificate of a chain is the root, which is
// taken out of the CA file and not revoked; a chain of one certificate is checked.
func (l *RevocationList) Check(chain []*x509.Certificate) error {
	entries := *l.entries.Load()
	if len(entries) == 0 || len(chain) == 0 {
		return nil
	}
	issuer := mtls.Issuer(chain[len(chain)-1])
	for _, c := range chain[:max(1, len(chain)-1)] {
		if entries[certificateEntry(mtls.Fingerprint(c))] || entries[serialEntry(mtls.Serial(c), issuer)] {
			return fmt.Errorf("certificate %s of %q: %w", mtls.Serial(c), c.Subject.CommonName, mtls.ErrRevoked)
		}
	}
	return nil
}

// Len is the number of entries in force.
func (l *RevocationList) Len() int { return len(*l.entries.Load()) }

// Err says why the content of the file is not in force, or nil if it is.
func (l *RevocationList) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Watch reads the file again and again until ctx ends, and calls changed after each
// change of what is revoked.
func (l *RevocationList) Watch(ctx context.Context, changed func()) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if l.look() {
				changed()
			}
		}
	}
}

// look reads the file and reports whether another list came into force.
func (l *RevocationList) look() (changed bool) {
	data, err := durable.ReadFile(durable.OS(), l.file, MaxListBytes)
	if errors.Is(err, fs.ErrNotExist) && l.content == nil {
		return false // it has not appeared yet
	}
	if err == nil {
		changed, err = l.take(data)
	}
	l.mu.Lock()
	last := l.err
	l.err = err
	l.mu.Unlock()
	if err != nil && (last == nil || last.Error() != err.Error()) {
		l.log.Error("the revocation list cannot be used, the last good one stays in force", "file", l.file, "entries", l.Len(), "err", err)
	}
	return changed
}

// take puts a list in force if it differs from the one that is.
func (l *RevocationList) take(data []byte) (changed bool, err error) {
	if l.content != nil && bytes.Equal(data, l.content) {
		return false, nil
	}
	entries, err := parseList(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", l.file, err)
	}
	l.entries.Store(&entries)
	l.content = data
	l.log.Info("revocation list loaded", "file", l.file, "entries", len(entries))
	return true, nil
}

func certificateEntry(fingerprint string) string { return "certificate " + fingerprint }

func serialEntry(serial, issuer string) string { return "serial " + serial + " issuer " + issuer }

// parseList reads a list. Each line is one of
//
//	certificate FINGERPRINT       one certificate, by its SHA-256
//	serial SERIAL issuer ISSUER   every certificate with this serial number below a root
//	# a comment, or an empty line
//
// in the form in which "sealmq cert show" and the broker's log print them. Anything else
// is an error, and so is a last line without an end: the rest of it may be missing.
func parseList(data []byte) (map[string]bool, error) {
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return nil, errors.New("the last line has no end, so the list may be cut off")
	}
	entries := make(map[string]bool)
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		switch words := strings.Fields(line); {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case len(words) == 2 && words[0] == "certificate" && isHex(words[1], 64, 64):
			entries[certificateEntry(words[1])] = true
		case len(words) == 4 && words[0] == "serial" && isHex(words[1], 1, 64) && words[2] == "issuer" && isIssuer(words[3]):
			entries[serialEntry(words[1], words[3])] = true
		default:
			return nil, fmt.Errorf(`line %d is neither "certificate SHA256" nor "serial SERIAL issuer sha256:KEY", in lower case`, n)
		}
	}
	return entries, nil
}

func isIssuer(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && isHex(hex, 64, 64)
}

// isHex reports whether s has shortest to longest lower-case hexadecimal digits.
func isHex(s string, shortest, longest int) bool {
	return len(s) >= shortest && len(s) <= longest && strings.Trim(s, "0123456789abcdef") == ""
}
