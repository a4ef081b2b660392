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

func (e *Envelope) texts() map[string]*string {
	return map[string]*string{"message_id": &e.MessageID, "receiver_client_id": &e.Receiver, "sent_time": &e.SentTime, "routing_key": &e.RoutingKey}
}

func (e *Envelope) fields() map[string]*[]byte {
	return map[string]*[]byte{"enc_session_key": &e.EncSessionKey, "nonce": &e.Nonce, "tag": &e.Tag, "ciphertext": &e.Ciphertext}
}

// Parse reads a published body. It wants one JSON object in which every member that it knows
// stands at most once and is a string, base64 in the standard alphabet with padding where it
// holds bytes. It skips members that it does not know and asks for message_id and one that
// holds bytes: which ones must be there depends on the suite. The error wraps
// seal.ErrMalformed, and seal.ErrNotSealed if the body is no envelope at all.
func Parse(body []byte) (*Envelope, error) {
	env := new(Envelope)
	texts, fields := env.texts(), env.fields()
	seen := make(map[string]bool, len(texts)+len(fields))
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

// print prints the members of a generation, those that are there, in its order and with
// its white space.
func (e *Envelope) print(s seal.Suite) []byte {
	f := forms[s]
	size := 192 + len(e.MessageID) + len(e.Receiver) + len(e.SentTime) + len(e.RoutingKey)
	for _, p := range [][]byte{e.EncSessionKey, e.Nonce, e.Tag, e.Ciphertext} {
		size += jsonform.Base64.EncodedLen(len(p))
	}
	dst := append(make([]byte, 0, size), '{')
	texts, fields := e.texts(), e.fields()
	for _, name := range f.members {
		text, field := texts[name], fields[name]
		if text != nil && *text == "" || field != nil && *field == nil {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, f.comma...)
		}
		dst = append(jsonform.AppendString(dst, name), f.colon...)
		if text != nil {
			dst = jsonform.AppendString(dst, *text)
		} else {
			dst = append(jsonform.Base64.AppendEncode(append(dst, '"'), *field), '"')
		}
	}
	return append(dst, '}')
}

// errEmpty: CipherMQ's receivers take an empty text for a failure and never acknowledge
// it, so it would come back to them for ever.
func errEmpty(s seal.Suite) error {
	return fmt.Errorf("suite %s cannot carry an empty message", s)
}
