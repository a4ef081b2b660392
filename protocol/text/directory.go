package text

import (
	"bytes"
	"strconv"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// The proven key directory: entries with their owner's signature, and the log of all
// changes. What is found was stored before, so looking up waits for what this connection
// has put.

const (
	prefixKeyStored = "Key stored "
	prefixFoundKey  = "Key: "
	prefixKeyLog    = "Key log: "
	prefixKeyProof  = "Key proof: "
	prefixKeyReset  = "Key reset"
	prefixReset     = "Reset: "
)

// putKeyEntry is `put_key <suite> <base64>`.
func (s *Session) putKeyEntry(v Verb, args []byte) {
	suite, encoded := cut(args)
	entry, ok := decodeAtMost(encoded, seal.MaxKeyEntryBytes)
	if !ok {
		s.answerError(v, &sealmq.Error{Code: sealmq.BadArgument,
			Message: "the key entry is not the base64 form of at most " + strconv.Itoa(seal.MaxKeyEntryBytes) + " bytes"})
		return
	}
	name := string(suite)
	s.ask(v, func(g *group) {
		s.broker.PutKeyEntry(s.id, name, entry, func(index int64, err error) {
			if err != nil {
				g.refuse(err)
				return
			}
			g.succeed(prefixKeyStored + strconv.FormatInt(index, 10) + "\n")
		})
	})
}

// findKey is `find_key <client> [suite]`. A client's name may have spaces, so the last word
// is a suite if it is one's name.
func (s *Session) findKey(v Verb, args []byte) {
	client, suite := string(args), ""
	if i := bytes.LastIndexByte(args, ' '); i >= 0 && isSuite(string(args[i+1:])) {
		client, suite = string(bytes.TrimRight(args[:i], " ")), string(args[i+1:])
	}
	found, err := s.broker.FindKey(s.id, client, suite)
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.answerJSON(v, prefixFoundKey, found)
}

// resetKey is `reset_key <client> [suite]`.
func (s *Session) resetKey(v Verb, args []byte) {
	client, suite := nameAndSlot(args)
	s.ask(v, func(g *group) {
		s.broker.ResetKey(s.id, client, suite, func(indexes []int64, err error) {
			if err != nil {
				g.refuse(err)
				return
			}
			line := prefixKeyReset
			for _, index := range indexes {
				line += " " + strconv.FormatInt(index, 10)
			}
			g.succeed(line + "\n")
		})
	})
}

// findReset is `find_reset <client> <suite>`.
func (s *Session) findReset(v Verb, args []byte) {
	client, suite := nameAndSlot(args)
	if client == "" || suite == "" {
		s.missing(v)
		return
	}
	found, err := s.broker.FindReset(s.id, client, suite)
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.answerJSON(v, prefixReset, found)
}

// nameAndSlot takes a suite, or the word for a bare key, off the end.
func nameAndSlot(args []byte) (client, slot string) {
	i := bytes.LastIndexByte(args, ' ')
	if i < 0 {
		return string(args), ""
	}
	if last := string(args[i+1:]); last == keylog.Unproven || isSuite(last) {
		return string(bytes.TrimRight(args[:i], " ")), last
	}
	return string(args), ""
}

func isSuite(name string) bool {
	for _, s := range seal.Suites() {
		if string(s) == name {
			return true
		}
	}
	return false
}

// keyLog is `key_log [<from> [<n>]]`.
func (s *Session) keyLog(v Verb, args []byte) {
	from, n := int64(0), int64(keylog.MaxPage)
	first, second := cut(args)
	ok := optionalNumber(first, &from) && optionalNumber(second, &n)
	if !ok || n > keylog.MaxPage {
		s.badArgument(v, "the place is not a number, or the number of leaves is over "+strconv.Itoa(keylog.MaxPage))
		return
	}
	page, err := s.broker.KeyLog(s.id, from, int(n))
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.answerJSON(v, prefixKeyLog, page)
}

// keyProof is `key_proof <from> <to>`.
func (s *Session) keyProof(v Verb, args []byte) {
	first, second := cut(args)
	var from, to int64
	if !optionalNumber(first, &from) || !optionalNumber(second, &to) {
		s.badArgument(v, "the two sizes of the log are not numbers")
		return
	}
	proof, err := s.broker.KeyProof(s.id, from, to)
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.answerJSON(v, prefixKeyProof, proof)
}

// optionalNumber reads a whole number that is not negative; nothing leaves v as it is.
func optionalNumber(text []byte, v *int64) bool {
	if len(text) == 0 {
		return true
	}
	n, err := strconv.ParseUint(string(text), 10, 62)
	*v = int64(n)
	return err == nil
}
