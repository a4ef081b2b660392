package keydir

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
)

// Pins remembers keys that were seen, and the directories' logs, in memory or in a file
// that several processes can share. It is safe for concurrent use.
type Pins struct {
	cfg PinsConfig
	mu  sync.Mutex
	mem pinFile // without a file
}

// PinsConfig says where pins are kept.
type PinsConfig struct {
	// File is where (default: in memory). It is made when there is something to keep, with
	// mode 0600; beside it lies a file with the ending .lock.
	File string
	// FS is the file system (default: the machine's).
	FS durable.FS
	// Clock is the time of day (default: the machine's).
	Clock clock.Clock
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

// bareSuite stands for the suite of bare keys among pins: nothing says which of CipherMQ's
// later generations they are for.
const bareSuite = "ciphermq-x25519"

// pinFile is the content of the file.
type pinFile struct {
	Version int                  `json:"v"`
	Logs    map[string]*pinnedOf `json:"directories"`
}

// pinnedOf is what is remembered of one directory.
type pinnedOf struct {
	LogKey     string `json:"log_key,omitempty"`
	Checkpoint []byte `json:"checkpoint,omitempty"`
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
func NewPins() *Pins { return &Pins{} }

// OpenPins opens a file of pins. One that is not there yet is empty; one that cannot be
// understood is an error.
func OpenPins(cfg PinsConfig) (*Pins, error) {
	if cfg.FS == nil {
		cfg.FS = durable.OS()
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	p := &Pins{cfg: cfg}
	_, _, err := p.read()
	return p, err
}

// Keys lists what is pinned of one directory, by owner and suite.
func (p *Pins) Keys(scope string) (map[string]map[string]Pin, error) {
	s, err := p.view(scope)
	return s.Keys, err
}

// Forget removes the pins of one owner, so that the next key of this name is pinned as if
// it were the first.
func (p *Pins) Forget(ctx context.Context, scope, owner string) error {
	return p.update(ctx, scope, func(s *pinnedOf) error {
		delete(s.Keys, owner)
		return nil
	})
}

// view returns what is remembered now. It must not be changed.
func (p *Pins) view(scope string) (pinnedOf, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, _, err := p.read()
	if err != nil {
		return pinnedOf{}, err
	}
	if s := f.Logs[scope]; s != nil {
		return *s, nil
	}
	return pinnedOf{}, nil
}

// read returns the content, and the bytes that it was read from. The caller holds mu.
func (p *Pins) read() (pinFile, []byte, error) {
	if p.cfg.File == "" {
		if p.mem.Logs == nil {
			return pinFile{Version: pinsVersion}, nil, nil
		}
		data, err := json.Marshal(p.mem) // a copy, so that a refused change leaves nothing behind
		if err != nil {
			return pinFile{}, nil, err
		}
		return parsePins(data)
	}
	data, err := durable.ReadFile(p.cfg.FS, p.cfg.File, maxPinsBytes)
	if durable.IsNotExist(err) {
		return pinFile{Version: pinsVersion}, nil, nil
	}
	if err != nil {
		return pinFile{}, nil, fmt.Errorf("read pins: %w", err)
	}
	f, data, err := parsePins(data)
	if err != nil {
		return f, nil, fmt.Errorf("read pins %s: %w", p.cfg.File, err)
	}
	return f, data, nil
}

func parsePins(data []byte) (pinFile, []byte, error) {
	var f pinFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = errors.New("something follows the JSON object")
	}
	if err != nil {
		var head struct {
			Version int `json:"v"`
		}
		if json.Unmarshal(data, &head) == nil && head.Version > pinsVersion {
			return f, nil, errNewerPins(head.Version)
		}
		return f, nil, &Error{Kind: ErrPins, Detail: "the file is damaged, or no file of pins", Err: err, hint: restorePins}
	}
	switch {
	case f.Version > pinsVersion:
		return f, nil, errNewerPins(f.Version)
	case f.Version != pinsVersion:
		return f, nil, &Error{Kind: ErrPins, Detail: "the file is damaged, or no file of pins: it has no version", hint: restorePins}
	}
	return f, data, f.check()
}

// restorePins is what can be done about pins that are not what was written.
const restorePins = "restore the file from a backup, or name another one; or move it away and compare all fingerprints again: " +
	"without it every key is taken on trust once more"

func errNewerPins(version int) error {
	return &Error{Kind: ErrPins, Detail: fmt.Sprintf("the file has version %d, and version %d is known here", version, pinsVersion),
		hint: "install a newer SealMQ"}
}

// check finds what no version has written. That a fingerprint is the one of its entry is
// only known when the entry is seen again.
func (f *pinFile) check() error {
	for _, s := range f.Logs {
		if s == nil {
			continue
		}
		for name, pins := range s.Keys {
			for slot, pin := range pins {
				if seal.ReadOut(pin.Fingerprint) == "" || !pin.fits(slot) {
					return &Error{Kind: ErrPins, Detail: fmt.Sprintf("the file was altered: the pin of %.255q for %.255q does not fit together", name, slot), hint: restorePins}
				}
			}
		}
	}
	return nil
}

// fits reports whether a pin has what its kind must have.
func (p *Pin) fits(slot string) bool {
	if slot == bareSuite {
		return !p.Proven && p.Serial == 0 && p.Entry == hexHash{} && p.Issuer == ""
	}
	return p.Proven && p.Serial > 0 && p.Entry != hexHash{}
}

// update changes what is remembered of one directory, alone: change sees what every other
// process has written. If it returns an error nothing is changed.
func (p *Pins) update(ctx context.Context, scope string, change func(*pinnedOf) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f, before, err := p.read()
	if err != nil {
		return err
	}
	if f.Logs == nil {
		f.Logs = make(map[string]*pinnedOf)
	}
	s := f.Logs[scope]
	if s == nil {
		s = &pinnedOf{}
		f.Logs[scope] = s
	}
	if err := change(s); err != nil {
		return err
	}
	return p.write(f, before)
}

func (p *Pins) write(f pinFile, before []byte) error {
	if p.cfg.File == "" {
		p.mem = f
		return nil
	}
	after, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	after = append(after, '\n')
	if bytes.Equal(before, after) {
		return nil
	}
	if len(after) > maxPinsBytes {
		return fmt.Errorf("write pins: the file would have more than %d bytes", maxPinsBytes)
	}
	if err := durable.WriteFile(p.cfg.FS, p.cfg.File, after, 0o600); err != nil {
		return fmt.Errorf("write pins: %w", err)
	}
	return nil
}

var errWritePins = errors.New("write pins")

// lock keeps other processes from writing.
func (p *Pins) lock(ctx context.Context) (unlock func(), err error) {
	locker, ok := p.cfg.FS.(durable.FileLocker)
	if p.cfg.File == "" {
		return func() {}, nil
	}
	if err := durable.MkdirAll(p.cfg.FS, filepath.Dir(p.cfg.File), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for pins: %w", err)
	}
	if !ok { // a file system of tests, which one process has
		return func() {}, nil
	}
	for try := 0; ; try++ {
		release, err := locker.LockFile(p.cfg.File + ".lock")
		if err == nil {
			return func() { _ = release() }, nil
		}
		if !errors.Is(err, durable.ErrLocked) || try == lockTries {
			return nil, &Error{Kind: errWritePins, Err: err,
				hint: "another process writes the same pins and does not end: stop it, or name another file of pins"}
		}
		over := make(chan struct{})
		t := p.cfg.Clock.AfterFunc(lockPause, func() { close(over) })
		select {
		case <-over:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}
