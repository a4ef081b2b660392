package text

import (
	"encoding/base64"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
)

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
