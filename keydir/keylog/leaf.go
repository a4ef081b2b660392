package keylog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Leaf is one record of the log: a key was put into the directory, an administrator took one
// out, or an administrator attested a restore.
type Leaf struct {
	// Restore is set in the record of a restore, which has no owner. Such a record is a Reset of
	// nothing, and all else is zero.
	Restore Restore
	// Reset says that the key was taken out. Serial and Hash are then those of the key, and
	// there is no Issuer.
	Reset bool
	// Proven tells an entry with its owner's signature from a bare key.
	Proven bool
	// Owner is whose key it is.
	Owner string
	// Issuer, Suite and Serial are those of an entry; a bare key has none.
	Issuer string
	Suite  string
	Serial uint64
	// Hash is the entry's Hash, or the SHA-256 of a bare key.
	Hash [32]byte
}

const (
	wordEntry    = "entry"
	wordUnproven = "unproven"
	wordReset    = "reset"
)

// Unproven is used instead of a suite for a bare key, which has none.
const Unproven = "unproven"

// Text is the record: one line with its line feed.
//
//	entry "<owner>" "<issuer>" <suite> <serial> <hash>
//	unproven "<client>" <sha256>
//	reset "<owner>" <suite> <serial> <hash>
//	reset "<client>" unproven 0 <sha256>
//	restored <records> <root> <records> <root>
//
// The two trees of a restore are the lost one and the one that the record is added to. Names are
// JSON strings, in the shortest spelling.
func (l Leaf) Text() string {
	hash := hex.EncodeToString(l.Hash[:])
	switch {
	case l.Restore != Restore{}:
		return l.Restore.text()
	case l.Reset && l.Proven:
		return wordReset + " " + quote(l.Owner) + " " + l.Suite + " " + strconv.FormatUint(l.Serial, 10) + " " + hash + "\n"
	case l.Reset:
		return wordReset + " " + quote(l.Owner) + " " + Unproven + " 0 " + hash + "\n"
	case !l.Proven:
		return wordUnproven + " " + quote(l.Owner) + " " + hash + "\n"
	}
	return wordEntry + " " + quote(l.Owner) + " " + quote(l.Issuer) + " " + l.Suite + " " + strconv.FormatUint(l.Serial, 10) + " " + hash + "\n"
}

// Record is the hash of the leaf in the tree. The entry that follows a reset names it as the
// hash of what was before: so nothing that was signed earlier can follow.
func (l Leaf) Record() tlog.Hash { return tlog.RecordHash([]byte(l.Text())) }

func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string is always encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// maxLeafBytes bounds a record: two names of 255 bytes, each of which may take six.
const maxLeafBytes = 4096

var errLeaf = errors.New("the log has a record that is not understood")

// ParseLeaf reads what Text has printed and nothing else.
func ParseLeaf(text string) (Leaf, error) {
	if len(text) > maxLeafBytes {
		return Leaf{}, errLeaf
	}
	word, rest, _ := strings.Cut(text, " ")
	if word == wordRestored {
		r, err := parseRestore(rest)
		if l := (Leaf{Reset: true, Restore: r}); err == nil && l.Text() == text {
			return l, nil
		}
		return Leaf{}, errLeaf
	}
	l := Leaf{Reset: word == wordReset, Proven: word == wordEntry}
	var err error
	if l.Owner, rest, err = unquote(rest); err != nil {
		return Leaf{}, err
	}
	if l.Proven {
		if l.Issuer, rest, err = unquote(rest); err != nil {
			return Leaf{}, err
		}
	}
	if l.Proven || l.Reset {
		var serial string
		l.Suite, rest, _ = strings.Cut(rest, " ")
		serial, rest, _ = strings.Cut(rest, " ")
		if l.Serial, err = strconv.ParseUint(serial, 10, 64); err != nil {
			return Leaf{}, errLeaf
		}
	}
	if l.Reset {
		if l.Proven = l.Suite != Unproven; !l.Proven {
			l.Suite = ""
		}
		if l.Suite == "" && l.Proven || l.Proven != (l.Serial > 0) {
			return Leaf{}, errLeaf
		}
	}
	hash, err := hex.DecodeString(strings.TrimSuffix(rest, "\n"))
	if err != nil || len(hash) != len(l.Hash) {
		return Leaf{}, errLeaf
	}
	l.Hash = [32]byte(hash)
	if l.Text() != text { // another word, another spelling
		return Leaf{}, errLeaf
	}
	return l, nil
}

// unquote takes a JSON string and the space after it off the beginning.
func unquote(s string) (name, rest string, err error) {
	d := json.NewDecoder(strings.NewReader(s))
	if err := d.Decode(&name); err != nil {
		return "", "", errLeaf
	}
	rest, ok := strings.CutPrefix(s[d.InputOffset():], " ")
	if !ok {
		return "", "", errLeaf
	}
	return name, rest, nil
}
