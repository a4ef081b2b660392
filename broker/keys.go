package broker

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// KeyBytes is the length of a legacy public key. CipherMQ clients register and look up
// X25519 keys; nothing proves that who registered one holds the private key.
const KeyBytes = 32

// PutKey registers the public key of a client. A client may write the entry of its own
// common name, administrators every one. The key that is there already is a success
// that changes nothing.
func (b *Broker) PutKey(id Caller, client string, key []byte, done func(changed bool, err error)) {
	client = strings.Clone(client)
	if err := checkClient(client); err != nil {
		done(false, err)
		return
	}
	if len(key) != KeyBytes {
		done(false, &sealmq.Error{Code: sealmq.BadArgument,
			Message: "a public key has " + strconv.Itoa(KeyBytes) + " bytes, this one has " + strconv.Itoa(len(key))})
		return
	}
	if err := b.allow(id, actWriteKey, client); err != nil {
		done(false, err)
		return
	}
	b.lock()
	defer b.unlock()
	keys := b.keys.Load()
	old, replaced := keys.get(client)
	same := replaced && bytes.Equal(old, key)
	if entries, _ := b.directory.counts(); !replaced && keys.len()+entries >= b.limits.Keys {
		done(false, errLimit("keys", b.limits.Keys))
		return
	}
	stored := func(err error) {
		if err == nil && !same {
			b.log.Info("public key registered", "client", client, "by", id.ID, "replaced", replaced)
			b.audit(id.ID, string(actWriteKey), client, nil)
		}
		done(err == nil && !same, err)
	}
	definition := []engine.Definition{defineKey(client, key, id.ID)}
	if b.directory != nil {
		leaf, record, err := b.registerLeaf(id, client, key, same, stored)
		if err != nil {
			done(false, err)
			return
		}
		if leaf != nil {
			b.keys.Store(keys.with(client, slices.Clone(key)))
			b.change(append(definition, leaf...), func() { b.keys.Store(keys) }, record)
			return
		}
	}
	if same {
		b.defined(definition, stored)
		return
	}
	b.keys.Store(keys.with(client, slices.Clone(key)))
	b.change(definition, func() { b.keys.Store(keys) }, stored)
}

// registerLeaf gives a bare key its place in the log. The caller holds mu.
func (b *Broker) registerLeaf(id Caller, client string, key []byte, same bool, done func(error)) ([]engine.Definition, func(error), error) {
	if !same {
		if err := b.keyRates.take(id, b.clock.Now()); err != nil {
			return nil, nil, err
		}
	}
	return b.directory.register(client, key, !same, b.limits, done)
}

// Key returns the public key of a client. The slice must not be changed.
func (b *Broker) Key(id Caller, client string) ([]byte, bool) {
	if b.allow(id, actReadKey, client) != nil {
		return nil, false
	}
	return b.keys.Load().get(client)
}

// checkClient is looser than sealmq.CheckName: a client is named by the common name of
// its certificate, and those may contain spaces.
func checkClient(client string) error {
	switch {
	case client == "":
		return &sealmq.Error{Code: sealmq.BadName, Message: "client id is empty"}
	case len(client) > sealmq.MaxNameBytes:
		return &sealmq.Error{Code: sealmq.BadName,
			Message: "client id is longer than " + strconv.Itoa(sealmq.MaxNameBytes) + " bytes"}
	}
	return checkLine("client id", client, sealmq.BadName)
}

// checkLine refuses what could break a line of a protocol or of a log.
func checkLine(what, text string, code sealmq.Code) error {
	if !utf8.ValidString(text) {
		return &sealmq.Error{Code: code, Message: what + " is not valid UTF-8"}
	}
	for _, r := range text {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return &sealmq.Error{Code: code, Message: what + " contains a control character or a line break"}
		}
	}
	return nil
}
