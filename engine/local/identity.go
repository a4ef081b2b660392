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
	identityName   = "store.json"
	identityFormat = 1
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
// set. It sets storeID and returns the key of the hashes.
func (f *storeFiles) loadIdentity(create bool) (hashKey, error) {
	b, err := f.read(identityName)
	if durable.IsNotExist(err) && create {
		return f.createIdentity()
	}
	if err != nil {
		return hashKey{}, err
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return hashKey{}, damaged(f.path(identityName), err.Error())
	}
	if id.Format > identityFormat {
		return hashKey{}, fmt.Errorf("store identity %s: format %d: %w", f.path(identityName), id.Format, journal.ErrNewer)
	}
	born, err := hex.DecodeString(id.StoreID + id.HashKey)
	if err != nil || len(born) != 32 || id.sum() != id.CRC32C {
		return hashKey{}, damaged(f.path(identityName), "its checksum does not match")
	}
	return f.adoptIdentity([32]byte(born)), nil
}

// adoptIdentity takes the store's id and, behind it, the key of the hashes.
func (f *storeFiles) adoptIdentity(born [32]byte) hashKey {
	f.storeID = [16]byte(born[:16])
	return hashKey{binary.LittleEndian.Uint64(born[16:]), binary.LittleEndian.Uint64(born[24:])}
}

// createIdentity refuses where there is a journal: a store that has lost its identity must
// not become a new one.
func (f *storeFiles) createIdentity() (hashKey, error) {
	if names, err := f.fs.ReadDir(f.path(journalDir)); err == nil && len(names) > 0 {
		return hashKey{}, damaged(f.path(identityName), "it is missing although there is a journal")
	}
	var born [32]byte
	rand.Read(born[:])
	id := identity{Format: identityFormat, StoreID: hex.EncodeToString(born[:16]), HashKey: hex.EncodeToString(born[16:])}
	id.CRC32C = id.sum()
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return hashKey{}, err
	}
	return f.adoptIdentity(born), f.write(identityName, append(b, '\n'))
}
