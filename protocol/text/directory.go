package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// The key directory with proof: entries with their owner's signature, and the log of all
// changes.

const (
	prefixKeyStored   = "Key stored "
	prefixFoundKey    = "Key: "
	prefixKeyLog      = "Key log: "
	prefixKeyProof    = "Key proof: "
	prefixKeyReset    = "Key reset"
	prefixReset       = "Reset: "
	prefixChainStored = "Chain stored "
	prefixChain       = "Chain: "
)

func (s *Session) putKeyEntry(v Verb, args []byte) {
	suite, encoded := cut(args)
	entry, ok := decodeAtMost(encoded, seal.MaxKeyEntryBytes)
	if !ok {
		s.badArgument(v, "the key entry is not the base64 form of at most "+strconv.Itoa(seal.MaxKeyEntryBytes)+" bytes")
		return
	}
	name := string(suite)
	s.ask(v, func(g *group) {
		s.broker.Keys().PutEntry(s.caller.Identity, name, entry, func(index int64, err error) {
			g.finish(prefixKeyStored+strconv.FormatInt(index, 10)+"\n", err)
		})
	})
}

func (s *Session) findKey(v Verb, args []byte) {
	client, suite := nameAndSlot(args, isSuite)
	found, err := s.broker.Keys().Find(s.caller.Identity, client, suite)
	s.answerJSON(v, prefixFoundKey, found, err)
}

func (s *Session) resetKey(v Verb, args []byte) {
	client, slot := nameAndSlot(args, isSlot)
	s.ask(v, func(g *group) {
		s.broker.Keys().Reset(s.caller.Identity, client, slot, func(indexes []int64, err error) {
			line := prefixKeyReset
			for _, index := range indexes {
				line += " " + strconv.FormatInt(index, 10)
			}
			g.finish(line+"\n", err)
		})
	})
}

func (s *Session) findReset(v Verb, args []byte) {
	client, slot := nameAndSlot(args, isSlot)
	if slot == "" {
		s.missing(v)
		return
	}
	found, err := s.broker.Keys().FindReset(s.caller.Identity, client, slot)
	s.answerJSON(v, prefixReset, found, err)
}

// nameAndSlot splits at the last space if a slot follows. A client's name may have spaces.
func nameAndSlot(args []byte, slots func(string) bool) (client, slot string) {
	if i := bytes.LastIndexByte(args, ' '); i >= 0 && slots(string(args[i+1:])) {
		return string(bytes.TrimRight(args[:i], " ")), string(args[i+1:])
	}
	return string(args), ""
}

func isSuite(name string) bool {
	return slices.Contains(seal.Suites(ciphermq.Suites{}), seal.Suite(name))
}

// isSlot knows the word for a bare key too.
func isSlot(name string) bool { return name == keylog.Unproven || isSuite(name) }

func (s *Session) keyLog(v Verb, args []byte) {
	from, n := int64(0), int64(keylog.MaxPage)
	first, second := cut(args)
	ok := optionalNumber(first, &from) && optionalNumber(second, &n)
	if !ok || n > keylog.MaxPage {
		s.badArgument(v, "the place is not a number, or the number of leaves is over "+strconv.Itoa(keylog.MaxPage))
		return
	}
	page, err := s.broker.Keys().Page(s.caller.Identity, from, int(n))
	s.answerJSON(v, prefixKeyLog, page, err)
}

func (s *Session) keyProof(v Verb, args []byte) {
	first, second := cut(args)
	var from, to int64
	if !optionalNumber(first, &from) || !optionalNumber(second, &to) {
		s.badArgument(v, "the two sizes of the log are not numbers")
		return
	}
	proof, err := s.broker.Keys().Consistency(s.caller.Identity, from, to)
	s.answerJSON(v, prefixKeyProof, proof, err)
}

// optionalNumber reads a whole number that is not negative. If there is none, v keeps
// its value.
func optionalNumber(text []byte, v *int64) bool {
	if len(text) == 0 {
		return true
	}
	n, err := strconv.ParseUint(string(text), 10, 62)
	*v = int64(n)
	return err == nil
}

// Bare keys, in CipherMQ's two dialects: v1.3 names the client in the command, v1.4 and
// later take it from the certificate (specification 7, R31 to R33).

func (s *Session) registerKey(v Verb, args []byte) {
	client, key := cut(args)
	s.putKey(v, prefixRegisteringKey, string(client), key)
}

func (s *Session) registerPublicKey(v Verb, args []byte) {
	if s.caller.CommonName == "" {
		s.answerError(v, &sealmq.Error{Code: sealmq.Denied,
			Message: "your certificate has no common name under which a key could be registered"})
		return
	}
	s.putKey(v, prefixError, s.caller.CommonName, args)
}

func (s *Session) putKey(v Verb, classic, client string, encoded []byte) {
	key, ok := decodeAtMost(encoded, keylog.KeyBytes)
	if !ok || len(key) != keylog.KeyBytes {
		s.metrics.fault(faultBadArgument)
		s.fail(v, classic, sealmq.BadArgument, "the public key is not the base64 form of 32 bytes")
		return
	}
	s.ask(v, func(g *group) {
		s.broker.Keys().PutKey(s.caller.Identity, client, key, func(_ bool, err error) { g.finishAs(classic, replyKeyRegistered, err) })
	})
}

func (s *Session) getKey(v Verb, args []byte) {
	key, ok := s.broker.Keys().Key(s.caller.Identity, string(args))
	switch {
	case ok:
		s.reply(v, prefixPublicKey+base64.StdEncoding.EncodeToString(key)+"\n")
	case v == GetKey:
		s.reply(v, replyNoKeyV13)
	default:
		s.reply(v, replyNoKey)
	}
}

// Senders' certificates, which envelopes name by their hash.

func (s *Session) putChain(v Verb, args []byte) {
	chain, ok := decodeAtMost(args, seal.MaxChainBytes)
	if !ok {
		s.badArgument(v, "the certificates are not the base64 form of at most "+strconv.Itoa(seal.MaxChainBytes)+" bytes")
		return
	}
	s.ask(v, func(g *group) {
		s.broker.Keys().PutChain(s.caller.Identity, chain, func(sum [32]byte, err error) {
			g.finish(prefixChainStored+hex.EncodeToString(sum[:])+"\n", err)
		})
	})
}

func (s *Session) findChain(v Verb, args []byte) {
	sum, err := hex.DecodeString(string(args[:min(len(args), 2*sha256.Size+1)]))
	if err != nil || len(sum) != sha256.Size {
		s.badArgument(v, "the hash is not 64 hexadecimal digits")
		return
	}
	chain, err := s.broker.Keys().Chain(s.caller.Identity, [sha256.Size]byte(sum))
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.reply(v, prefixChain+base64.StdEncoding.EncodeToString(chain)+"\n")
}

// decodeAtMost decodes strict base64 of up to n bytes.
func decodeAtMost(encoded []byte, n int) ([]byte, bool) {
	if len(encoded) > base64.StdEncoding.EncodedLen(n) {
		return nil, false
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, encoded)
	return raw, err == nil
}
