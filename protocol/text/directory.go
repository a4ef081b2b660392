package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// The key directory with proof: entries with their owner's signature, and the log of all
// changes.

func (s *Session) putKeyEntry(v Verb, args []byte) {
	suite, encoded := cut(args)
	if !isSuite(string(suite)) {
		s.badArgument(v, "there is no suite '"+string(suite)+"', only "+suiteNames)
		return
	}
	entry, ok := decodeAtMost(encoded, seal.MaxKeyEntryBytes)
	if !ok {
		s.badArgument(v, "the key entry is not the base64 form of at most "+strconv.Itoa(seal.MaxKeyEntryBytes)+" bytes")
		return
	}
	s.ask(v, func(g *group) {
		s.cfg.Broker.Keys().PutEntry(s.caller.Identity, string(suite), entry, func(index int64, err error) { g.finishCount(int(index), err) })
	})
}

func (s *Session) findKey(v Verb, args []byte) {
	client, suite := nameAndSlot(args, isSuite)
	found, err := s.cfg.Broker.Keys().Find(s.caller.Identity, client, suite)
	s.answerJSON(v, found, err)
}

func (s *Session) resetKey(v Verb, args []byte) {
	client, slot := nameAndSlot(args, isSlot)
	s.ask(v, func(g *group) {
		s.cfg.Broker.Keys().Reset(s.caller.Identity, client, slot, func(indexes []int64, err error) {
			var rest []byte
			for _, index := range indexes {
				rest = strconv.AppendInt(append(rest, ' '), index, 10)
			}
			g.finishWith(string(rest), err)
		})
	})
}

func (s *Session) attestRestore(v Verb, args []byte) {
	size, root := cut(args)
	lost, err := keylog.ParseTree(string(size), string(root))
	if err != nil {
		lost = keylog.Restore{}.Lost // which is refused, to those who may ask
	}
	s.ask(v, func(g *group) {
		s.cfg.Broker.Keys().AttestRestore(s.caller.Identity, lost, func(index int64, err error) { g.finishCount(int(index), err) })
	})
}

func (s *Session) findReset(v Verb, args []byte) {
	client, slot := nameAndSlot(args, isSlot)
	if slot == "" {
		s.badArgument(v, "the last word is neither "+keylog.Unproven+" nor a suite: "+suiteNames)
		return
	}
	found, err := s.cfg.Broker.Keys().FindReset(s.caller.Identity, client, slot)
	s.answerJSON(v, found, err)
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

// suiteNames is the list of suites for an error.
var suiteNames = func() string {
	var names []string
	for _, suite := range seal.Suites(ciphermq.Suites{}) {
		names = append(names, string(suite))
	}
	return strings.Join(names, ", ")
}()

// isSlot knows the word for a bare key too.
func isSlot(name string) bool { return name == keylog.Unproven || isSuite(name) }

// keys lists current keys. The last argument is the rest, because a client's name may have spaces.
func (s *Session) keys(v Verb, args []byte) {
	count, from := cut(args)
	n, ok := optionalCount(count, keylog.MaxList)
	if !ok || n > keylog.MaxList {
		s.badArgument(v, "the number of clients is not between 1 and "+strconv.Itoa(keylog.MaxList))
		return
	}
	list, err := s.cfg.Broker.Keys().List(s.caller.Identity, string(from), n)
	s.answerJSON(v, list, err)
}

func (s *Session) keyLog(v Verb, args []byte) {
	from, n := int64(0), int64(keylog.MaxPage)
	first, second := cut(args)
	ok := optionalNumber(first, &from) && optionalNumber(second, &n)
	if !ok || n > keylog.MaxPage {
		s.badArgument(v, "the place is not a number, or the number of leaves is over "+strconv.Itoa(keylog.MaxPage))
		return
	}
	page, err := s.cfg.Broker.Keys().Page(s.caller.Identity, from, int(n))
	s.answerJSON(v, page, err)
}

func (s *Session) keyProof(v Verb, args []byte) {
	first, second := cut(args)
	var from, to int64
	if !optionalNumber(first, &from) || !optionalNumber(second, &to) {
		s.badArgument(v, "the two sizes of the log are not numbers")
		return
	}
	proof, err := s.cfg.Broker.Keys().Consistency(s.caller.Identity, from, to)
	s.answerJSON(v, proof, err)
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
	s.putKey(v, string(client), key)
}

func (s *Session) registerPublicKey(v Verb, args []byte) {
	if s.caller.CommonName == "" {
		s.answerError(v, &sealmq.Error{Code: sealmq.Denied,
			Message: "your certificate has no common name under which a key could be registered"})
		return
	}
	s.putKey(v, s.caller.CommonName, args)
}

func (s *Session) putKey(v Verb, client string, encoded []byte) {
	key, ok := decodeAtMost(encoded, keylog.KeyBytes)
	if !ok || len(key) != keylog.KeyBytes {
		s.badArgument(v, "the public key is not the base64 form of 32 bytes")
		return
	}
	s.ask(v, func(g *group) {
		s.cfg.Broker.Keys().PutKey(s.caller.Identity, client, key, func(_ bool, err error) { g.finish(err) })
	})
}

func (s *Session) getKey(v Verb, args []byte) {
	key, ok := s.cfg.Broker.Keys().Key(s.caller.Identity, string(args))
	switch {
	case ok:
		s.succeed(v, base64.StdEncoding.EncodeToString(key))
	case v == GetKey:
		s.reply(v, "No public key found")
	default:
		s.reply(v, "Public key not found")
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
		s.cfg.Broker.Keys().PutChain(s.caller.Identity, chain, func(sum [32]byte, err error) {
			g.finishWith(hex.EncodeToString(sum[:]), err)
		})
	})
}

func (s *Session) findChain(v Verb, args []byte) {
	sum, err := hex.DecodeString(string(args[:min(len(args), 2*sha256.Size+1)]))
	if err != nil || len(sum) != sha256.Size {
		s.badArgument(v, "the hash is not 64 hexadecimal digits")
		return
	}
	chain, err := s.cfg.Broker.Keys().Chain(s.caller.Identity, [sha256.Size]byte(sum))
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.succeed(v, base64.StdEncoding.EncodeToString(chain))
}

// decodeAtMost decodes strict base64 of up to n bytes.
func decodeAtMost(encoded []byte, n int) ([]byte, bool) {
	if len(encoded) > base64.StdEncoding.EncodedLen(n) {
		return nil, false
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, encoded)
	return raw, err == nil
}
