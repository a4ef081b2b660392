package keylog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/definition"
)

// What the store keeps. A value is JSON whose member "v" is the version of its kind; names
// are in the keys:
//
//	key/<client>                      {"v":1,"key":"<base64>","by":"<identity>","issuer":"…"}
//	keyentry/<suite> <owner>          {"v":1,"entry":"<base64>","issuer":"…","serial":1,"hash":"<base64>"}
//	keyleaf/<sequence, hex>           {"v":1,"leaf":"…"}
//	chain/<sha256, hex>               {"v":1,"chain":"<base64>","by":"<identity>","issuer":"…"}
//
// Leaves are ordered by their sequence number, which has gaps: a leaf that the store refused
// is none.
const (
	keyPrefix   = "key/"
	entryPrefix = "keyentry/"
	leafPrefix  = "keyleaf/"
	chainPrefix = "chain/"
)

type keyValue struct {
	Version int    `json:"v"`
	Key     []byte `json:"key"`
	By      string `json:"by"`
	Issuer  string `json:"issuer,omitempty"` // of the identity; older versions did not write it
}

// entryValue is the current entry of an owner and suite. What can be read from the entry
// is stored beside it, because reading it means checking a signature.
type entryValue struct {
	Version int    `json:"v"`
	Entry   []byte `json:"entry"`
	Issuer  string `json:"issuer"`
	Serial  uint64 `json:"serial"`
	Hash    []byte `json:"hash"`
}

type leafValue struct {
	Version int    `json:"v"`
	Leaf    string `json:"leaf"`
}

type chainValue struct {
	Version int    `json:"v"`
	Chain   []byte `json:"chain"`
	By      string `json:"by"`
	Issuer  string `json:"issuer,omitempty"`
}

// definitionKey is where the key of a slot is kept.
func definitionKey(at slot) string {
	if at.suite == "" {
		return keyPrefix + at.owner
	}
	return entryPrefix + at.suite + " " + at.owner
}

func defineKey(client string, key []byte, by sealmq.Identity) Definition {
	return Definition{keyPrefix + client, definition.Encode(keyValue{definition.Version, key, by.ID, by.Issuer})}
}

func defineEntry(r *record) Definition {
	return Definition{definitionKey(r.leaf.slot()),
		definition.Encode(entryValue{definition.Version, r.data, r.leaf.Issuer, r.leaf.Serial, r.leaf.Hash[:]})}
}

func defineLeaf(sequence uint64, leaf Leaf) Definition {
	return Definition{leafKey(sequence), definition.Encode(leafValue{definition.Version, leaf.Text()})}
}

func defineChain(sum [32]byte, s *storedChain) Definition {
	return Definition{chainPrefix + hex.EncodeToString(sum[:]), definition.Encode(chainValue{definition.Version, s.chain, s.by.id, s.by.issuer})}
}

func leafKey(sequence uint64) string { return fmt.Sprintf("%s%016x", leafPrefix, sequence) }

// Owns reports whether a definition with this key is a Log's.
func Owns(key string) bool {
	kind, _, _ := strings.Cut(key, "/")
	switch kind + "/" {
	case keyPrefix, entryPrefix, leafPrefix, chainPrefix:
		return true
	}
	return false
}

type storedLeaf struct {
	sequence uint64
	leaf     Leaf
}

// maxReportedErrors keeps an error about a wholly foreign store readable.
const maxReportedErrors = 10

// read takes all definitions but the leaves, which it returns.
func (l *Log) read(list []Definition) (leaves []storedLeaf, err error) {
	var errs []error
	for _, d := range list {
		var err error
		switch kind, rest, _ := strings.Cut(d.Key, "/"); kind + "/" {
		case keyPrefix:
			err = decode(d, func(v keyValue) error {
				l.at(slot{rest, ""}).current = bareKey(rest, v.Key, v.Issuer)
				return nil
			})
		case entryPrefix:
			err = decode(d, func(v entryValue) error {
				suite, owner, ok := strings.Cut(rest, " ")
				if !ok || len(v.Hash) != 32 {
					return errors.New("no such entry is possible")
				}
				leaf := Leaf{Proven: true, Owner: owner, Issuer: v.Issuer, Suite: suite, Serial: v.Serial, Hash: [32]byte(v.Hash)}
				l.at(leaf.slot()).current = &record{leaf: leaf, data: v.Entry, index: unlogged}
				return nil
			})
		case leafPrefix:
			err = decode(d, func(v leafValue) error {
				sequence, err := strconv.ParseUint(rest, 16, 64)
				if err != nil || leafKey(sequence) != d.Key {
					return errors.New("its number cannot be read")
				}
				leaf, err := ParseLeaf(v.Leaf)
				leaves = append(leaves, storedLeaf{sequence, leaf})
				return err
			})
		case chainPrefix:
			err = decode(d, func(v chainValue) error {
				sum := sha256.Sum256(v.Chain)
				if rest != hex.EncodeToString(sum[:]) {
					return fmt.Errorf("its hash is %x", sum)
				}
				l.chains.add(sum, &storedChain{v.Chain, clientOf{v.By, v.Issuer}, true})
				return nil
			})
		}
		if err != nil {
			if errs = append(errs, err); len(errs) == maxReportedErrors {
				break
			}
		}
	}
	return leaves, errors.Join(errs...)
}

// decode reads a value and passes it to take, which says what is wrong with it.
func decode[T any](d Definition, take func(v T) error) error {
	var v T
	if err := definition.Decode(d.Key, d.Value, &v); err != nil {
		return err
	}
	if err := take(v); err != nil {
		return definition.Damaged(d.Key, err.Error())
	}
	return nil
}
