package trust

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// MaxListBytes bounds a file of revocations, about 60,000 entries.
const MaxListBytes = 16 << 20

// lookEvery is how often the files are read. It leaves most of the second within which a
// revocation acts to closing connections.
const lookEvery = 100 * time.Millisecond

// ListFile is a file of revocations; parser describes its format.
type ListFile struct {
	Path string
	// MayBeMissing says that nothing is revoked by the file until it appears. Otherwise a
	// missing file is an error.
	MayBeMissing bool
	// Ledger says that the file is the one of this installation's Ledger.
	Ledger bool
}

// ListConfig says what is read for a RevocationList.
type ListConfig struct {
	// FS is where the files are; nil is the operating system's file system.
	FS    durable.FS
	Files []ListFile
	// FeedFile keeps the list that Apply gets. It is empty if there is none.
	FeedFile string
	// StaleClose is how old the feed may become before Peers refuses everybody; zero is never.
	StaleClose time.Duration
	// Roots is the file of the authorities that Peers accepts; empty accepts all.
	Roots string
	// OwnRoots is the file with the root of our own authority, whose roles Identifier
	// believes. There is none until it appears; empty is none.
	OwnRoots string
	// Authorities sign CRLs; nil accepts no CRL.
	Authorities Authorities
	// NoteLists gives a change of the files other than the ledger a number, as
	// Ledger.NoteLists does. Nil: Since sends their entries each time.
	NoteLists func(digest string) error
	// Now is the time of day (default time.Now).
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
}

// RevocationList is the one list of what is revoked, combined from files and a feed. It
// implements mtls.Revocation and is safe for concurrent use.
//
// The content of a file decides what is revoked, not its time or size. If it cannot be used,
// the last good content stays in force, Err says why, and the log says it once. That also
// holds for a file that is emptied: to revoke nothing, leave a comment in it.
type RevocationList struct {
	cfg      ListConfig
	index    atomic.Pointer[index]
	peers    peers
	accepted rootsFile
	own      rootsFile
	origin   string // of its numbers

	refreshing sync.Mutex // one Refresh at a time, until all are told; taken before mu

	mu      sync.Mutex // one look at a time; guards what follows
	sources []*source
	feed    feedState
	changed map[*func()]bool
}

// source is a file.
type source struct {
	ListFile
	content []byte // in force, nil if there is none yet
	unended []byte // seen at the last look; it may be only half written
	parsed  *parsed
	crls    map[string]*big.Int // the highest numbers that were seen
	err     error               // why the file is not in force
}

// OpenRevocations reads all files; what cannot be read is an error.
func OpenRevocations(cfg ListConfig) (*RevocationList, error) {
	cfg.FS = cmp.Or(cfg.FS, durable.OS())
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &RevocationList{cfg: cfg, changed: make(map[*func()]bool), origin: rand.Text(),
		accepted: rootsFile{path: cfg.Roots}, own: rootsFile{path: cfg.OwnRoots, mayBeMissing: true}}
	for _, f := range cfg.Files {
		s := &source{ListFile: f, parsed: &parsed{}, crls: make(map[string]*big.Int)}
		l.sources = append(l.sources, s)
		data, err := durable.ReadFile(l.cfg.FS, f.Path, MaxListBytes)
		if errors.Is(err, fs.ErrNotExist) && f.MayBeMissing {
			continue
		}
		if err == nil {
			s.unended = data // nobody is writing it, as far as can be known
			_, err = l.take(s, data)
		}
		if err != nil {
			return nil, fmt.Errorf("read revocation list: %w", err)
		}
	}
	if err := l.readFeed(); err != nil {
		return nil, fmt.Errorf("read revocation list: %w", err)
	}
	if err := l.openPeers(); err != nil {
		return nil, err
	}
	l.build()
	l.note()
	return l, nil
}

// Check implements mtls.Revocation. The last certificate of a chain is the root, which is
// taken out of the CA file and not revoked; a chain of one certificate is checked.
func (l *RevocationList) Check(chain []*x509.Certificate) error { return l.index.Load().check(chain) }

// Find returns the entry that revokes a certificate.
func (l *RevocationList) Find(c Certificate) (e Entry, revoked bool) {
	if found := l.index.Load().find(c); found != nil {
		return *found, true
	}
	return Entry{}, false
}

// RevokesName reports whether every certificate of a name is revoked, also one that is yet to
// be issued.
func (l *RevocationList) RevokesName(name string) bool { return l.index.Load().revokesName(name) }

// RevokesFingerprint reports whether the certificate with a fingerprint (mtls.Fingerprint) is
// revoked by an entry that names it. Serial numbers and names are not looked at.
func (l *RevocationList) RevokesFingerprint(fingerprint string) bool {
	return l.index.Load().fingerprints[fingerprint] != nil
}

// Len is the number of entries in force.
func (l *RevocationList) Len() int { return l.index.Load().entries }

// Problems are sentences about files that are not in force and lines that were ignored.
func (l *RevocationList) Problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, s := range l.sources {
		if s.err != nil {
			list = append(list, fmt.Sprintf("the last good list is still used: %v", s.err))
		}
		for _, p := range s.parsed.problems {
			list = append(list, fmt.Sprintf("%s: %s", s.Path, p))
		}
	}
	for _, f := range []*rootsFile{&l.accepted, &l.own} {
		if f.err != nil {
			list = append(list, fmt.Sprintf("the last good authorities are still believed: %v", f.err))
		}
	}
	return list
}

// Err is Problems as one error, or nil if there are none.
func (l *RevocationList) Err() error {
	if p := l.Problems(); len(p) > 0 {
		return errors.New(strings.Join(p, "; "))
	}
	return nil
}

// Watch reads the files again and again until ctx ends, and calls changed after each change
// of what is revoked, of whom Peers lets in, and of whose roles Identifier believes.
func (l *RevocationList) Watch(ctx context.Context, changed func()) {
	defer l.OnChange(changed)()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.Refresh()
		}
	}
}

// OnChange calls f after each change that Watch calls changed for, until stop is called. f must not
// call Refresh.
func (l *RevocationList) OnChange(f func()) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed[&f] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.changed, &f)
	}
}

// Refresh reads the files now. When it returns, what they revoke is in force and those who
// want to know of changes were called.
func (l *RevocationList) Refresh() {
	if l.refresh() {
		l.note()
	}
}

// refresh reports whether something else is revoked.
func (l *RevocationList) refresh() (changed bool) {
	l.refreshing.Lock() // a change that another call has found may not be told to all yet
	defer l.refreshing.Unlock()
	l.mu.Lock()
	for _, s := range l.sources {
		changed = l.look(s) || changed
	}
	if changed {
		l.build()
	}
	peers := l.lookAtPeers()
	l.mu.Unlock()
	if changed || peers {
		l.tell()
	}
	return changed
}

// tell calls those who want to know of changes, without the lock.
func (l *RevocationList) tell() {
	l.mu.Lock()
	var calls []func()
	for f := range l.changed {
		calls = append(calls, *f)
	}
	l.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

// build puts what the sources have into force.
func (l *RevocationList) build() {
	var all [][]Entry
	for _, s := range l.sources {
		all = append(all, s.parsed.entries)
	}
	l.index.Store(newIndex(append(all, l.feed.entries)...))
}

// look reads a file and reports whether it revokes something else now.
func (l *RevocationList) look(s *source) (changed bool) {
	data, err := durable.ReadFile(l.cfg.FS, s.Path, MaxListBytes)
	if errors.Is(err, fs.ErrNotExist) && s.content == nil {
		return false // it has not appeared yet
	}
	if err == nil {
		changed, err = l.take(s, data)
	}
	last := s.err
	s.err = err
	if err != nil && (last == nil || last.Error() != err.Error()) {
		l.cfg.Log.Error("the revocation list cannot be used, the last good one stays in force", "file", s.Path, "entries", len(s.parsed.entries), "err", err)
	}
	return changed
}

// take puts a file's content in force if it differs from what is.
func (l *RevocationList) take(s *source, data []byte) (changed bool, err error) {
	if s.content != nil && bytes.Equal(data, s.content) && !s.parsed.unsigned {
		return false, nil
	}
	if len(bytes.TrimSpace(data)) == 0 && len(s.parsed.entries) > 0 {
		return false, fmt.Errorf("%s is empty; to revoke nothing any more, leave a line with # in it", s.Path)
	}
	p, err := parseList(data, l.cfg.Authorities)
	if err == nil {
		err = s.goesOn(p)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.Path, err)
	}
	if p.unended && !bytes.Equal(data, s.unended) {
		s.unended = data // perhaps the rest is being written
		return false, s.err
	}
	if p.unended {
		p.problems = append(p.problems, "the last line has no end, so the list may be cut off")
	}
	same := s.content != nil && slices.Equal(p.problems, s.parsed.problems) && bytes.Equal(data, s.content)
	s.content, s.parsed, s.unended = data, p, nil
	for issuer, number := range p.crls {
		s.crls[issuer] = number
	}
	if same {
		return false, nil
	}
	for _, problem := range p.problems {
		l.cfg.Log.Error("a part of the revocation list is ignored", "file", s.Path, "problem", problem)
	}
	l.cfg.Log.Info("revocation list loaded", "file", s.Path, "entries", len(p.entries))
	return true, nil
}

// goesOn refuses a list that is older than one that was in force: a backup was restored.
func (s *source) goesOn(p *parsed) error {
	if s.content != nil && p.version < s.parsed.version {
		return fmt.Errorf("its last number is %d and was %d before: revocations are missing", p.version, s.parsed.version)
	}
	for issuer, number := range p.crls {
		if last := s.crls[issuer]; last != nil && number.Cmp(last) < 0 {
			return fmt.Errorf("the CRL of %s has number %d, and one with number %d was seen before", issuer, number, last)
		}
	}
	return nil
}

// note gives the present content of the files other than the ledger a number.
func (l *RevocationList) note() {
	l.mu.Lock()
	digest, noted := l.digest(), l.noted()
	l.mu.Unlock()
	if l.cfg.NoteLists == nil || digest == noted {
		return
	}
	if err := l.cfg.NoteLists(digest); err != nil { // it may wait for another process
		l.cfg.Log.Error("a change of the revocation lists got no number", "err", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sources {
		if s.Ledger {
			l.look(s)
		}
	}
}

// noLists is the digest of files that revoke nothing.
const noLists = "none"

// digest tells the contents of the files other than the ledger apart.
func (l *RevocationList) digest() string {
	sum, some := sha256.New(), false
	for _, s := range l.sources {
		if s.Ledger || len(s.parsed.entries) == 0 {
			continue
		}
		one := sha256.Sum256(s.content)
		sum.Write(one[:])
		some = true
	}
	if !some {
		return noLists
	}
	return hex.EncodeToString(sum.Sum(nil))
}
