package text

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/sealmq/sealmq/seal"
)

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
