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
func (s *Session) putKeyEntry(args []byte) {
	suite, encoded := cut(args)
	if len(encoded) == 0 {
		s.missing(PutKey, replyMissingParameters)
		return
	}
	entry, ok := decodeAtMost(encoded, seal.MaxKeyEntryBytes)
	if !ok {
		s.answerError(PutKey, &sealmq.Error{Code: sealmq.BadArgument,
			Message: "the key entry is not the base64 form of at most " + strconv.Itoa(seal.MaxKeyEntryBytes) + " bytes"})
		return
	}
	name := string(suite)
	s.ask(PutKey, func(g *group) {
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
func (s *Session) findKey(args []byte) {
	client, suite := string(args), ""
	if i := bytes.LastIndexByte(args, ' '); i >= 0 && isSuite(string(args[i+1:])) {
		client, suite = string(bytes.TrimRight(args[:i], " ")), string(args[i+1:])
	}
	if client == "" {
		s.missing(FindKey, replyMissingClient)
		return
	}
	if !s.barrier() {
		return
	}
	found, err := s.broker.FindKey(s.id, client, suite)
	if err != nil {
		s.answerError(FindKey, err)
		return
	}
	s.answerJSON(FindKey, prefixFoundKey, found)
}

// resetKey is `reset_key <client> [suite]`.
func (s *Session) resetKey(args []byte) {
	client, suite := nameAndSlot(args)
	if client == "" {
		s.missing(ResetKey, replyMissingClient)
		return
	}
	if !s.barrier() {
		return
	}
	s.ask(ResetKey, func(g *group) {
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
func (s *Session) findReset(args []byte) {
	client, suite := nameAndSlot(args)
	if client == "" || suite == "" {
		s.missing(FindReset, replyMissingParameters)
		return
	}
	if !s.barrier() {
		return
	}
	found, err := s.broker.FindReset(s.id, client, suite)
	if err != nil {
		s.answerError(FindReset, err)
		return
	}
	s.answerJSON(FindReset, prefixReset, found)
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
func (s *Session) keyLog(args []byte) {
	from, n := int64(0), int64(keylog.MaxPage)
	first, second := cut(args)
	ok := optionalNumber(first, &from) && optionalNumber(second, &n)
	if !ok || n > keylog.MaxPage {
		s.badArgument(KeyLog, "the place is not a number, or the number of leaves is over "+strconv.Itoa(keylog.MaxPage))
		return
	}
	if !s.barrier() {
		return
	}
	page, err := s.broker.KeyLog(s.id, from, int(n))
	if err != nil {
		s.answerError(KeyLog, err)
		return
	}
	s.answerJSON(KeyLog, prefixKeyLog, page)
}

// keyProof is `key_proof <from> <to>`.
func (s *Session) keyProof(args []byte) {
	first, second := cut(args)
	if len(second) == 0 {
		s.missing(KeyProof, replyMissingParameters)
		return
	}
	var from, to int64
	if !optionalNumber(first, &from) || !optionalNumber(second, &to) {
		s.badArgument(KeyProof, "the two sizes of the log are not numbers")
		return
	}
	if !s.barrier() {
		return
	}
	proof, err := s.broker.KeyProof(s.id, from, to)
	if err != nil {
		s.answerError(KeyProof, err)
		return
	}
	s.answerJSON(KeyProof, prefixKeyProof, proof)
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
