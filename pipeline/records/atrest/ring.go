package atrest

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/sealmq/sealmq/internal/durable"
)

// MaxKeys is how many versions of a key may be in use at the same time.
const MaxKeys = 64

// Files names the key files of one purpose.
type Files struct {
	// FS is the file system; nil is the operating system's.
	FS durable.FS
	// Paths are the files by version. Versions are 1 or higher; the highest one is for new rows.
	Paths map[uint16]string
	// Create makes that version's file if it is missing. It is for the product's own
	// data folder. It must not be set once there are rows under that version: a new key
	// cannot read them.
	Create bool
}

// MissingKeyError says that a key file does not exist.
type MissingKeyError struct {
	Path string
	// Version is the key's version.
	Version uint16
}

// Error names the file.
func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("key file %q (version %d) does not exist", e.Path, e.Version)
}

// Hint tells the operator what to do.
func (e *MissingKeyError) Hint() string {
	return "if there are messages already, restore the file from the key backup; no other key can read them. " +
		"For a new installation, write URL-safe base64 of 32 random bytes into it and make it readable for its owner only"
}

// Is matches fs.ErrNotExist.
func (e *MissingKeyError) Is(target error) bool { return target == fs.ErrNotExist }

// Ring is the versions of one key. It does not change, and may be used by several
// goroutines.
type Ring struct {
	current uint16
	keys    map[uint16]Key
}

// NewRing makes a ring of keys; current is the version for new rows.
func NewRing(current uint16, keys map[uint16]Key) (*Ring, error) {
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("%d keys are more than %d: remove those that no row uses any more", len(keys), MaxKeys)
	}
	for version, k := range keys {
		if version == 0 || version > 1<<15-1 { // what the column takes
			return nil, fmt.Errorf("key version %d is not between 1 and %d", version, 1<<15-1)
		}
		if k == (Key{}) {
			return nil, fmt.Errorf("key version %d is empty", version)
		}
	}
	if _, ok := keys[current]; !ok {
		return nil, fmt.Errorf("version %d is to be used for new rows, but has no key", current)
	}
	return &Ring{current: current, keys: maps.Clone(keys)}, nil
}

// Load reads key files. It refuses a file that others can read (*durable.PrivateError), and
// one that is missing (*MissingKeyError). Both have a hint.
func Load(f Files) (*Ring, error) {
	f.FS = cmp.Or(f.FS, durable.OS())
	if len(f.Paths) == 0 {
		return nil, errors.New("no key file is configured")
	}
	versions := slices.Sorted(maps.Keys(f.Paths))
	current := versions[len(versions)-1]
	keys := make(map[uint16]Key)
	for _, version := range versions {
		path := f.Paths[version]
		k, err := load(f.FS, path)
		if errors.Is(err, fs.ErrNotExist) {
			if !f.Create || version != current {
				return nil, &MissingKeyError{Path: path, Version: version}
			}
			k, err = create(f.FS, path)
		}
		if err != nil {
			return nil, err
		}
		for other, same := range keys {
			if same == k {
				return nil, fmt.Errorf("key file %q has the same key as version %d: a new version needs a new key", path, other)
			}
		}
		keys[version] = k
	}
	return NewRing(current, keys)
}

func load(fs durable.FS, path string) (Key, error) {
	data, err := durable.ReadPrivate(fs, path, MaxKeyFile)
	if err != nil {
		return Key{}, err
	}
	k, err := ParseKey(data)
	clear(data)
	if err != nil {
		return Key{}, fmt.Errorf("key file %q: %w", path, err)
	}
	return k, nil
}

func create(fs durable.FS, path string) (Key, error) {
	if err := durable.MkdirAll(fs, filepath.Dir(path), 0o700); err != nil {
		return Key{}, err
	}
	k := NewKey()
	return k, durable.WriteFile(fs, path, k.file(), 0o600)
}

// Equal reports whether two rings have the same keys.
func (r *Ring) Equal(other *Ring) bool {
	return r.current == other.current && maps.Equal(r.keys, other.keys)
}

// Current is the version for new rows.
func (r *Ring) Current() uint16 { return r.current }

// Versions are the versions that have a key, ascending.
func (r *Ring) Versions() []uint16 { return slices.Sorted(maps.Keys(r.keys)) }

// Fingerprint tells one key of a version from another, and nothing about the key. A
// database keeps it to notice that a key file was exchanged. It is empty if there is no
// key of that version.
func (r *Ring) Fingerprint(version uint16) string {
	k, ok := r.keys[version]
	if !ok {
		return ""
	}
	return hex.EncodeToString(k.derive(nil, "sealmq/records/fingerprint/v1")[:16])
}

// derive makes a key for one purpose.
func (k Key) derive(salt []byte, info string) []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], salt, info, KeySize)
	if err != nil {
		panic("atrest: internal error: " + err.Error()) // 32 bytes are never too many
	}
	return out
}
