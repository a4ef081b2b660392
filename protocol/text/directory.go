package text

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
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

// The key directory speaks two dialects: v1.3 names the client in the command, v1.4 and
// later take it from the certificate (specification 7, R31 to R33).

func (s *Session) registerKey(v Verb, args []byte) {
	client, key := cut(args)
	s.putKey(v, prefixRegisteringKey, string(client), key)
}

func (s *Session) registerPublicKey(v Verb, args []byte) {
	if s.id.CommonName == "" {
		s.answerError(v, &sealmq.Error{Code: sealmq.Denied,
			Message: "your certificate has no common name under which a key could be registered"})
		return
	}
	s.putKey(v, prefixError, s.id.CommonName, args)
}

func (s *Session) putKey(v Verb, prefix, client string, encoded []byte) {
	key, err := decodeKey(encoded)
	if err != nil {
		code, sentence := s.explain(v, err)
		s.fail(v, prefix, code, sentence)
		return
	}
	s.ask(v, func(g *group) {
		s.broker.PutKey(s.id, client, key, func(_ bool, err error) {
			if err != nil {
				g.refuseAs(prefix, err)
				return
			}
			g.succeed(replyKeyRegistered)
		})
	})
}

func decodeKey(encoded []byte) ([]byte, error) {
	bad := &sealmq.Error{Code: sealmq.BadArgument, Message: "the public key is not the base64 form of 32 bytes"}
	if len(encoded) != base64.StdEncoding.EncodedLen(keylog.KeyBytes) {
		return nil, bad
	}
	key, err := base64.StdEncoding.Strict().AppendDecode(nil, encoded)
	if err != nil || len(key) != keylog.KeyBytes {
		return nil, bad
	}
	return key, nil
}

func (s *Session) getKey(v Verb, args []byte) {
	key, ok := s.broker.Key(s.id, string(args))
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

const (
	prefixChainStored = "Chain stored "
	prefixChain       = "Chain: "
)

// putChain is `put_chain <base64>`.
func (s *Session) putChain(v Verb, args []byte) {
	chain, ok := decodeAtMost(args, seal.MaxChainBytes)
	if !ok {
		s.badArgument(v, "the certificates are not the base64 form of at most "+strconv.Itoa(seal.MaxChainBytes)+" bytes")
		return
	}
	s.ask(v, func(g *group) {
		s.broker.PutChain(s.id, chain, func(sum [32]byte, err error) {
			if err != nil {
				g.refuse(err)
				return
			}
			g.succeed(prefixChainStored + hex.EncodeToString(sum[:]) + "\n")
		})
	})
}

// findChain is `find_chain <sha256, hex>`.
func (s *Session) findChain(v Verb, args []byte) {
	var sum [32]byte
	if n, err := hex.Decode(sum[:], args[:min(len(args), 2*len(sum))]); err != nil || n != len(sum) || len(args) != 2*len(sum) {
		s.badArgument(v, "the hash is not 64 hexadecimal digits")
		return
	}
	chain, err := s.broker.Chain(s.id, sum)
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
