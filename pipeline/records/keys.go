package records

import (
	"context"
	"fmt"
	"slices"

	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// keySet is what rows are written and read with.
type keySet struct {
	ring    *atrest.Ring
	numbers *atrest.Hasher
}

func (s *Store) ring() *atrest.Ring      { return s.keys.Load().ring }
func (s *Store) numbers() *atrest.Hasher { return s.keys.Load().numbers }

// SetKeys changes the keys while the store is used, and reports whether they differ: new rows get
// the newest ones from now on, and Reencrypt begins again. If a key is not the one that the
// database was written with, or the newest one is missing, all keys stay as they were.
func (s *Store) SetKeys(ctx context.Context, ring *atrest.Ring, numbers *atrest.Hasher) (changed bool, err error) {
	old := s.keys.Load()
	if ring.Equal(old.ring) && numbers.Equal(old.numbers) {
		return false, nil
	}
	if v := old.ring.Current(); ring.Current() < v {
		return false, &OtherKeyError{Key: "records", Version: v, Missing: true}
	}
	if v := old.numbers.Current(); numbers.Current() < v {
		return false, &OtherKeyError{Key: "numbers", Version: v, Missing: true}
	}
	now := &keySet{ring, numbers}
	if err := s.checkKeys(ctx, now); err != nil {
		return false, err
	}
	s.keys.Store(now)
	s.scopes.forget()
	return true, nil
}

// checkKeys notices a key file that was exchanged, before rows are written under two keys of
// one version.
func (s *Store) checkKeys(ctx context.Context, keys *keySet) error {
	for _, version := range keys.ring.Versions() {
		if err := s.checkKey(ctx, "key_fingerprint", keys.ring.Fingerprint(version), OtherKeyError{Key: "records", Version: version}); err != nil {
			return err
		}
	}
	for _, version := range keys.numbers.Versions() {
		if err := s.checkKey(ctx, "number_key_fingerprint", keys.numbers.Fingerprint(version), OtherKeyError{Key: "numbers", Version: version}); err != nil {
			return err
		}
	}
	return nil
}

// OtherKeyError says that a key is not the one that the database was written with.
type OtherKeyError struct {
	Key     string // what it is for: records, numbers, ids or sealing
	Version uint16 // of a key for records or numbers
	Missing bool   // it is not there at all
}

// Error names the key.
func (e *OtherKeyError) Error() string {
	switch e.Key {
	case "sealing":
		return e.key() + " is missing that was the newest with this database: restore that key file"
	case "ids":
		return e.key() + " is not the one that this database was written with: restore that key file"
	}
	if e.Missing {
		return e.key() + " is missing, and rows are written with it: restore that key file"
	}
	return e.key() + " is not the one that this database was written with: restore that key file, or give the new key a new version"
}

func (e *OtherKeyError) key() string {
	switch e.Key {
	case "sealing":
		return "the sealing key"
	case "ids":
		return "the key of message ids"
	case "numbers":
		return fmt.Sprintf("key version %d of the numbers", e.Version)
	}
	return fmt.Sprintf("encryption key version %d", e.Version)
}

// checkSealingKeys demands the key that was the newest at an earlier start. The newest one of now
// is that key from now on.
func (s *Store) checkSealingKeys(ctx context.Context) error {
	const name = "sealing_key_fingerprint"
	if len(s.cfg.SealingKeys) == 0 {
		return nil
	}
	other := &OtherKeyError{Key: "sealing"}
	stored, err := s.setting(ctx, s.write, name)
	newest := s.cfg.SealingKeys[0]
	switch {
	case err != nil || stored == newest:
	case stored != "" && !slices.Contains(s.cfg.SealingKeys, stored):
		return other
	default:
		err = s.putSetting(ctx, s.write, name, newest)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be checked: %w", other.key(), s.d.coded("look for its fingerprint", err))
	}
	return nil
}

// checkKey compares a key's fingerprint with the one that is stored, and stores the first one.
func (s *Store) checkKey(ctx context.Context, name, mine string, other OtherKeyError) error {
	name = fmt.Sprintf("%s_%d", name, other.Version)
	stored, err := s.setting(ctx, s.write, name)
	if err == nil && stored == "" { // of several main servers that begin, the first one decides
		_, err = s.write.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES (?, ?)"+s.d.ignore("name"), name, mine)
		if err == nil {
			stored, err = s.setting(ctx, s.write, name)
		}
	}
	if err != nil {
		return fmt.Errorf("%s cannot be checked: %w", other.key(), s.d.coded("look for its fingerprint", err))
	}
	if stored != mine {
		return &other
	}
	return nil
}
