package local

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

const (
	identityName = "store.json"
	// identityFormat is the format of the whole store, so that an older program refuses a store
	// into which this one writes. In format 1 ids had no scopes.
	identityFormat = 2
	journalDir     = "journal"
)

// identity is the file "store.json": the random choices with which a store is born. Records
// of the journal depend on both, so a copy of the journal is of use only with this file.
type identity struct {
	Format  int    `json:"format"`
	StoreID string `json:"store_id"`
	HashKey string `json:"hash_key"`
	CRC32C  string `json:"crc32c"` // of the other members, in their order
}

func (f identity) sum() string {
	return fmt.Sprintf("%08x", crc32.Checksum(fmt.Appendf(nil, "%d %s %s", f.Format, f.StoreID, f.HashKey), castagnoli))
}

// loadIdentity reads the store's identity, or makes one for an empty folder if create is
// set. It sets storeID and hashKey. A store that has lost its identity does not become a new one.
func (f *storeFiles) loadIdentity(create bool) error {
	b, err := f.read(identityName)
	if durable.IsNotExist(err) {
		switch used, err := f.used(); {
		case err != nil:
			return err
		case used:
			return damaged(f.path(identityName), "it is missing although there is a journal")
		case create:
			f.inventIdentity()
			return f.writeIdentity()
		}
	}
	if err != nil {
		return err
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return damaged(f.path(identityName), err.Error())
	}
	if id.Format > identityFormat {
		return fmt.Errorf("store identity %s: format %d: %w", f.path(identityName), id.Format, journal.ErrNewer)
	}
	born, err := hex.DecodeString(id.StoreID + id.HashKey)
	if err != nil || len(born) != 32 || id.sum() != id.CRC32C {
		return damaged(f.path(identityName), "its checksum does not match")
	}
	f.adoptIdentity([32]byte(born))
	f.older = id.Format < identityFormat
	return nil
}

// adoptIdentity takes the store's id and, behind it, the key of the hashes.
func (f *storeFiles) adoptIdentity(born [32]byte) {
	f.storeID = [16]byte(born[:16])
	f.hashKey = hashKey{binary.LittleEndian.Uint64(born[16:]), binary.LittleEndian.Uint64(born[24:])}
}

func (f *storeFiles) inventIdentity() {
	var born [32]byte
	rand.Read(born[:])
	f.adoptIdentity(born)
}

// used reports whether there is anything of a store but its identity.
func (f *storeFiles) used() (bool, error) {
	index, definitions, err := f.list()
	if err != nil && !durable.IsNotExist(err) {
		return false, err
	}
	names, err := f.fs.ReadDir(f.path(journalDir))
	if err != nil && !durable.IsNotExist(err) {
		return false, err
	}
	return len(index)+len(definitions)+len(names) > 0, nil
}

func (f *storeFiles) writeIdentity() error {
	key := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, f.hashKey.k0), f.hashKey.k1)
	id := identity{Format: identityFormat, StoreID: hex.EncodeToString(f.storeID[:]), HashKey: hex.EncodeToString(key)}
	id.CRC32C = id.sum()
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return f.write(identityName, append(b, '\n'))
}
