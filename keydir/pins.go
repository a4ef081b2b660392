package keydir

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// Pins remembers the keys of a directory that were seen, and the directory's log, in memory
// or in a file that several processes and directories can share. It is safe for concurrent
// use.
type Pins struct {
	file  string // empty: in memory
	scope string // names the directory in the file
	fs    durable.FS
	clock clock.Clock
	turn  chan struct{} // of size one; the goroutine that has filled it writes

	mu  sync.Mutex
	mem []byte // the content, without a file
}

// Pin is what is remembered of a key.
type Pin struct {
	// Fingerprint names the key.
	Fingerprint string `json:"fingerprint"`
	// Proven tells an entry with its owner's signature from a bare key. Serial, Entry (the
	// entry's hash) and Issuer are those of an entry.
	Proven bool    `json:"proven"`
	Serial uint64  `json:"serial,omitempty"`
	Entry  hexHash `json:"entry,omitzero"`
	Issuer string  `json:"issuer,omitempty"`
	// FirstSeen is when it was pinned.
	FirstSeen time.Time `json:"first_seen"`
}

// hexHash is a SHA-256 that prints in hexadecimal.
type hexHash [32]byte

// MarshalText prints 64 digits.
func (h hexHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads them.
func (h *hexHash) UnmarshalText(text []byte) error {
	p, err := hex.DecodeString(string(text))
	if err != nil || len(p) != len(h) {
		return errors.New("a hash has 64 hexadecimal digits")
	}
	*h = hexHash(p)
	return nil
}

// pinFile is the content of the file.
type pinFile struct {
	Version int                  `json:"v"`
	Logs    map[string]*pinnedOf `json:"directories"`
}

// pinnedOf is what is remembered of one directory.
type pinnedOf struct {
	LogKey     string `json:"log_key,omitempty"`
	Checkpoint []byte `json:"checkpoint,omitempty"`
	// Restores are the records of the log of the restores that were accepted.
	Restores []string `json:"restores,omitempty"`
	// Keys are by owner and suite.
	Keys map[string]map[string]Pin `json:"keys,omitempty"`
}

const (
	pinsVersion  = 1
	maxPinsBytes = 32 << 20
	// lockPause and lockTries bound the wait for another process that writes.
	lockPause = 20 * time.Millisecond
	lockTries = 500
)

// NewPins makes pins in memory.
func NewPins() *Pins { return &Pins{turn: make(chan struct{}, 1)} }

// OpenPins opens the pins of one directory in a file, which may have several; scope is a name
// for the directory. A file that is not there yet is empty, and is made with mode 0600 when
// there is something to keep; one that cannot be understood is an error. Beside it lies a file
// with the ending .lock.
func OpenPins(file, scope string) (*Pins, error) {
	return openPins(file, scope, durable.OS(), clock.System)
}

func openPins(file, scope string, fs durable.FS, c clock.Clock) (*Pins, error) {
	p := NewPins()
	p.file, p.scope, p.fs, p.clock = file, scope, fs, c
	_, err := p.read()
	return p, err
}

// Scope is the name of the directory in the file.
func (p *Pins) Scope() string { return p.scope }

// Keys lists what is pinned, by owner and suite.
func (p *Pins) Keys() (map[string]map[string]Pin, error) {
	s, err := p.directory()
	return s.Keys, err
}

// Forget removes the pins of one owner, so that the next key of this name is pinned as if
// it were the first. It returns what was pinned, by suite.
func (p *Pins) Forget(ctx context.Context, owner string) (gone map[string]Pin, err error) {
	// Do not make the file's folder if there is nothing to forget.
	if keys, err := p.Keys(); err != nil || len(keys[owner]) == 0 {
		return nil, err
	}
	err = p.change(ctx, func(s pinnedOf) (pinnedOf, error) {
		gone = s.Keys[owner]
		delete(s.Keys, owner)
		return s, nil
	})
	return gone, err
}

// Seen is the tree of the latest checkpoint that was seen of the directory; it is empty if none
// was.
func (p *Pins) Seen() (tlog.Tree, error) {
	s, err := p.directory()
	if err != nil {
		return tlog.Tree{}, err
	}
	seen, err := memory{logKey: s.LogKey, checkpoint: s.Checkpoint}.open()
	return seen.tree, err
}

// directory reads what is remembered of the directory.
func (p *Pins) directory() (pinnedOf, error) {
	f, err := p.read()
	if err != nil {
		return pinnedOf{}, err
	}
	return *f.of(p.scope), nil
}

// change replaces what is remembered of the directory by what decide makes of it, in one step.
func (p *Pins) change(ctx context.Context, decide func(s pinnedOf) (pinnedOf, error)) error {
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := p.read()
	if err != nil {
		return err
	}
	after, err := decide(*f.of(p.scope))
	if err != nil {
		return err
	}
	f.Logs[p.scope] = &after
	return p.write(f)
}

// recall reads what is remembered of the directory and one name.
func (p *Pins) recall(name string) (memory, error) {
	f, err := p.read()
	if err != nil {
		return memory{}, err
	}
	return f.memory(p.scope, name), nil
}

// remember replaces what was recalled of a name by after. It returns false, and changes
// nothing, if somebody else has changed it meanwhile.
func (p *Pins) remember(ctx context.Context, name string, before, after memory) (kept bool, err error) {
	same := after.equal(before)
	if !same {
		unlock, err := p.lock(ctx)
		if err != nil {
			return false, err
		}
		defer unlock()
	}
	f, err := p.read()
	if err != nil || !f.memory(p.scope, name).equal(before) {
		return false, err
	}
	if same {
		return true, nil
	}
	s := f.of(p.scope)
	f.Logs[p.scope] = s
	s.LogKey, s.Checkpoint = after.logKey, after.checkpoint
	if len(after.pins) > 0 {
		s.Keys[name] = after.pins
	}
	return true, p.write(f)
}

// of returns what is remembered of one directory.
func (f *pinFile) of(scope string) *pinnedOf {
	if s := f.Logs[scope]; s != nil {
		return s
	}
	return &pinnedOf{Keys: make(map[string]map[string]Pin)}
}

func (f *pinFile) memory(scope, name string) memory {
	s := f.of(scope)
	return memory{s.LogKey, s.Checkpoint, strings.Join(s.Restores, ""), s.Keys[name]}
}

// read understands the content.
func (p *Pins) read() (*pinFile, error) {
	if p.file == "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		return parsePins(p.mem)
	}
	content, err := durable.ReadFile(p.fs, p.file, maxPinsBytes)
	if err != nil && !durable.IsNotExist(err) {
		return nil, &FileError{"read pins", err}
	}
	f, err := parsePins(content)
	if err != nil {
		err = fmt.Errorf("read pins %s: %w", p.file, err)
	}
	return f, err
}

// parsePins understands the content of a file; nil is the one that is not there.
func parsePins(data []byte) (*pinFile, error) {
	if data == nil {
		return &pinFile{Version: pinsVersion, Logs: make(map[string]*pinnedOf)}, nil
	}
	var head struct {
		Version int `json:"v"`
	}
	if json.Unmarshal(data, &head) == nil && head.Version > pinsVersion {
		return nil, &Error{Kind: ErrPins, Detail: fmt.Sprintf("the file has version %d, and version %d is known here", head.Version, pinsVersion), Remedy: "install a newer SealMQ"}
	}
	f := new(pinFile)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(f)
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = errors.New("something follows the JSON object")
	}
	if err == nil && f.Version != pinsVersion {
		err = errors.New("it has no version")
	}
	if err != nil {
		return nil, &Error{Kind: ErrPins, Detail: "the file is damaged, or no file of pins", Err: err, Remedy: hintRestorePins}
	}
	return f, f.check()
}

const hintRestorePins = "restore the file from a backup, or name another one; or move it away and compare all fingerprints again: " +
	"without it every key is taken on trust once more"

// check finds what no version has written, and makes what is left out. That a fingerprint is
// the one of its entry is only known when the entry is seen again.
func (f *pinFile) check() error {
	if f.Logs == nil {
		f.Logs = make(map[string]*pinnedOf)
	}
	for _, s := range f.Logs {
		if s == nil {
			continue
		}
		for _, text := range s.Restores {
			if leaf, err := keylog.ParseLeaf(text); err != nil || leaf.Restore == (keylog.Restore{}) {
				return &Error{Kind: ErrPins, Detail: "the file was altered: an accepted restore cannot be read", Err: err, Remedy: hintRestorePins}
			}
		}
		if s.Keys == nil {
			s.Keys = make(map[string]map[string]Pin)
		}
		// An owner without pins, which no version leaves, is one that was not seen.
		maps.DeleteFunc(s.Keys, func(_ string, pins map[string]Pin) bool { return len(pins) == 0 })
		for name, pins := range s.Keys {
			for slot, pin := range pins {
				if seal.ReadOut(pin.Fingerprint) == "" || !pin.fits(slot) {
					return &Error{Kind: ErrPins, Detail: fmt.Sprintf("the file was altered: the pin of %.255q for %.255q does not fit together", name, slot), Remedy: hintRestorePins}
				}
			}
		}
	}
	return nil
}

// fits reports whether a pin has what its kind must have.
func (p *Pin) fits(slot string) bool {
	if slot == bareSlot {
		return !p.Proven && p.Serial == 0 && p.Entry == hexHash{} && p.Issuer == ""
	}
	return p.Proven && p.Serial > 0 && p.Entry != hexHash{}
}

// write replaces the content. The caller has locked it.
func (p *Pins) write(f *pinFile) error {
	content, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	content = append(content, '\n')
	switch {
	case len(content) > maxPinsBytes:
		return fmt.Errorf("write pins: the file would have more than %d bytes", maxPinsBytes)
	case p.file == "":
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mem = content
		return nil
	}
	if err := durable.WriteFile(p.fs, p.file, content, 0o600); err != nil {
		return &FileError{"write pins", err}
	}
	return nil
}

// FileError says that the system does not read or write the file of pins.
type FileError struct {
	Op  string
	Err error
}

// Error says what was tried.
func (e *FileError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap is the system's error.
func (e *FileError) Unwrap() error { return e.Err }

var errWritePins = errors.New("write pins")

// lock keeps all others from writing, other processes too.
func (p *Pins) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release, err := p.lockFile(ctx)
	if err != nil {
		<-p.turn
		return nil, err
	}
	return func() { release(); <-p.turn }, nil
}

func (p *Pins) lockFile(ctx context.Context) (unlock func(), err error) {
	if p.file == "" {
		return func() {}, nil
	}
	if err := durable.MkdirAll(p.fs, filepath.Dir(p.file), 0o700); err != nil {
		return nil, &FileError{"make the folder for pins", err}
	}
	locker, ok := p.fs.(durable.FileLocker)
	if !ok { // a file system of tests, which one process has
		return func() {}, nil
	}
	for try := 0; ; try++ {
		release, err := locker.LockFile(p.file + ".lock")
		if err == nil {
			return func() { _ = release() }, nil
		}
		if !errors.Is(err, durable.ErrLocked) {
			return nil, &FileError{"write pins", err}
		}
		if try == lockTries {
			return nil, &Error{Kind: errWritePins, Err: err,
				Remedy: "another process holds the file of pins for too long: stop it, or name another file"}
		}
		if err := clock.Sleep(ctx, p.clock, lockPause); err != nil {
			return nil, err
		}
	}
}
