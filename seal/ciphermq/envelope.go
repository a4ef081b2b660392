package ciphermq

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/internal/jsonform"
)

// Envelope is the outer form of a sealed message, parsed and not opened. Nothing in it is to be believed before a key has opened it, and of
// what is beside the ciphertext nothing even then.
type Envelope struct {
	MessageID     string // message_id
	Receiver      string // receiver_client_id; G3 and later
	EncSessionKey []byte // enc_session_key: the wrapped content key
	Nonce         []byte // nonce
	Tag           []byte // tag; nil from G5 on
	Ciphertext    []byte // ciphertext, from G5 on with the tag at its end
	SentTime      string // sent_time; G4 and later
	RoutingKey    string // routing_key; G4
}

// Parse reads a published body. It wants one JSON object in which every member that it knows
// stands at most once and is a string, base64 in the standard alphabet with padding where it
// holds bytes. It skips members that it does not know and asks for message_id and one that
// holds bytes: which ones must be there depends on the suite. The error wraps
// seal.ErrMalformed, and seal.ErrNotSealed if the body is no envelope at all.
func Parse(body []byte) (*Envelope, error) {
	env := new(Envelope)
	texts := map[string]*string{
		"message_id":         &env.MessageID,
		"receiver_client_id": &env.Receiver,
		"sent_time":          &env.SentTime,
		"routing_key":        &env.RoutingKey,
	}
	fields := map[string]*[]byte{
		"enc_session_key": &env.EncSessionKey,
		"nonce":           &env.Nonce,
		"tag":             &env.Tag,
		"ciphertext":      &env.Ciphertext,
	}
	seen := make(map[string]bool, len(fields)+len(texts))
	err := jsonform.Members(body, func(name string, value json.RawMessage) error {
		text, field := texts[name], fields[name]
		if text == nil && field == nil {
			return nil
		}
		if seen[name] {
			return fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		s, err := jsonform.String(name, value)
		if err != nil {
			return err
		}
		if text != nil {
			*text = s
			return nil
		}
		*field, err = jsonform.Bytes(name, s)
		return err
	})
	if err != nil {
		return nil, &seal.Error{Kind: seal.ErrMalformed, Err: err}
	}
	if env.EncSessionKey == nil && env.Nonce == nil && env.Tag == nil && env.Ciphertext == nil {
		return nil, &seal.Error{Kind: seal.ErrNotSealed} // it is JSON of another kind
	}
	if err := sealmq.CheckName("message_id", env.MessageID); err != nil {
		return nil, &seal.Error{Kind: seal.ErrMalformed, Err: err}
	}
	return env, nil
}

// form is how the sender of a generation prints its JSON.
type form struct {
	members []string
	colon   string
	comma   string
	time    string // layout of sent_time
}

const microseconds = "2006-01-02T15:04:05.000000"

var forms = map[seal.Suite]form{
	RSA: {[]string{"message_id", "enc_session_key", "nonce", "tag", "ciphertext"}, ": ", ", ", ""},
	G3:  {[]string{"message_id", "receiver_client_id", "enc_session_key", "nonce", "tag", "ciphertext"}, ": ", ", ", ""},
	G4: {[]string{"message_id", "receiver_client_id", "enc_session_key", "nonce", "tag", "ciphertext", "sent_time", "routing_key"},
		": ", ", ", microseconds + "Z"},
	G5: {[]string{"message_id", "ciphertext", "receiver_client_id", "enc_session_key", "nonce", "sent_time"}, ": ", ", ", microseconds + "+00:00"},
	G6: {[]string{"ciphertext", "enc_session_key", "message_id", "nonce", "receiver_client_id", "sent_time"}, ":", ",",
		"2006-01-02T15:04:05.000000000+00:00"},
}

func (f form) sentTime(t time.Time) string {
	if f.time == "" {
		return ""
	}
	return t.UTC().Format(f.time)
}

// JSON prints the envelope byte for byte as CipherMQ's own sender does, for every
// generation but G6, which writes the members of G5 in another order.
func (e *Envelope) JSON() []byte {
	if e.Tag == nil && e.Receiver != "" && e.RoutingKey == "" {
		return e.print(G5)
	}
	return e.print(G4) // G2 and G3 are the same with less
}

// print prints the members of a generation, those that are there, in its order and with
// its white space.
func (e *Envelope) print(s seal.Suite) []byte {
	f := forms[s]
	size := 192 + len(e.MessageID) + len(e.Receiver) + len(e.SentTime) + len(e.RoutingKey)
	for _, p := range [][]byte{e.EncSessionKey, e.Nonce, e.Tag, e.Ciphertext} {
		size += jsonform.Base64.EncodedLen(len(p))
	}
	dst := append(make([]byte, 0, size), '{')
	for _, name := range f.members {
		if e.lacks(name) {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, f.comma...)
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"')
		dst = append(dst, f.colon...)
		dst = e.appendMember(dst, name)
	}
	return append(dst, '}')
}

func (e *Envelope) lacks(member string) bool {
	switch member {
	case "receiver_client_id":
		return e.Receiver == ""
	case "sent_time":
		return e.SentTime == ""
	case "routing_key":
		return e.RoutingKey == ""
	case "tag":
		return e.Tag == nil
	}
	return false
}

func (e *Envelope) appendMember(dst []byte, name string) []byte {
	var p []byte
	switch name {
	case "message_id":
		return jsonform.AppendString(dst, e.MessageID)
	case "receiver_client_id":
		return jsonform.AppendString(dst, e.Receiver)
	case "sent_time":
		return jsonform.AppendString(dst, e.SentTime)
	case "routing_key":
		return jsonform.AppendString(dst, e.RoutingKey)
	case "enc_session_key":
		p = e.EncSessionKey
	case "nonce":
		p = e.Nonce
	case "tag":
		p = e.Tag
	case "ciphertext":
		p = e.Ciphertext
	}
	dst = append(dst, '"')
	dst = jsonform.Base64.AppendEncode(dst, p)
	return append(dst, '"')
}

// errEmpty: CipherMQ's receivers take an empty text for a failure and never acknowledge
// it, so it would come back to them for ever.
func errEmpty(s seal.Suite) error {
	return fmt.Errorf("suite %s cannot carry an empty message", s)
}
