package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
)

// message is a submission as its client wrote it.
type message struct {
	loc    []any // of the object in the body
	fields []httpkit.Field

	number, body, key       string
	hasNumber, hasBody      bool
	metadata                bool
	others                  []member
	domain, clientTimestamp string
	hasDomain               bool
}

// member is one that metadata carries along: its name and its value, both as JSON.
type member struct{ name, value []byte }

func (m *message) refuse(kind, msg string, name ...any) {
	m.fields = append(m.fields, httpkit.Field{Type: kind, Loc: append(slices.Clone(m.loc), name...), Msg: msg})
}

// buffer is what reading a request needs for itself.
type buffer struct {
	body    []byte
	reader  bytes.Buffer
	decoder jsontext.Decoder
}

// maxKeptBody bounds what a buffer keeps for the next request.
const maxKeptBody = 64 << 10

func (b *buffer) reset(body []byte) *jsontext.Decoder {
	b.reader = *bytes.NewBuffer(body)
	b.decoder.Reset(&b.reader)
	return &b.decoder
}

// decodeMessage reads a body with one message. The error is for the body as a whole; what
// is wrong with single values is in the message's fields.
func decodeMessage(d *jsontext.Decoder, m *message) error {
	m.loc = bodyLoc
	if err := m.decode(d); err != nil {
		return err
	}
	return atEnd(d)
}

var bodyLoc = []any{"body"}

// atEnd refuses what follows the value.
func atEnd(d *jsontext.Decoder) error {
	if d.PeekKind() != 0 {
		return httpkit.Invalid(httpkit.Field{Type: "json_invalid", Loc: []any{"body", d.InputOffset()}, Msg: "Something follows the JSON value"})
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return httpkit.JSONError(d, err)
	}
	return nil
}

// decodeBatch reads a body with many messages.
func decodeBatch(d *jsontext.Decoder) ([]message, error) {
	if d.PeekKind() != '{' {
		return nil, notAnObject(d, bodyLoc)
	}
	var list []message
	found := false
	err := members(d, func(name []byte) error {
		if string(name) != "messages" {
			return skip(d, func(msg string) error {
				return httpkit.Invalid(httpkit.Field{Type: "json_invalid", Loc: []any{"body"}, Msg: msg})
			})
		}
		found = true
		var err error
		list, err = decodeList(d)
		return err
	})
	if err == nil {
		err = atEnd(d)
	}
	switch loc := []any{"body", "messages"}; {
	case err != nil:
		return nil, err
	case !found:
		return nil, httpkit.Invalid(httpkit.Field{Type: "missing", Loc: loc, Msg: "Field required"})
	case len(list) == 0:
		return nil, httpkit.Invalid(httpkit.Field{Type: "too_short", Loc: loc, Msg: "A batch has 1 message at least"})
	}
	return list, nil
}

func decodeList(d *jsontext.Decoder) (list []message, err error) {
	loc := []any{"body", "messages"}
	if d.PeekKind() != '[' {
		if _, err := d.ReadValue(); err != nil {
			return nil, httpkit.JSONError(d, err)
		}
		return nil, httpkit.Invalid(httpkit.Field{Type: "list_type", Loc: loc, Msg: "Input should be a list"})
	}
	if err := readToken(d); err != nil {
		return nil, err
	}
	for d.PeekKind() != ']' {
		if len(list) == pipeline.MaxBatch {
			return nil, httpkit.Invalid(httpkit.Field{Type: "too_long", Loc: loc, Msg: fmt.Sprintf("A batch has %d messages at most", pipeline.MaxBatch)})
		}
		list = append(list, message{loc: []any{"body", "messages", len(list)}})
		if err := list[len(list)-1].decode(d); err != nil {
			return nil, err
		}
	}
	return list, readToken(d)
}

// notAnObject is the error for a value of another kind, or for no JSON.
func notAnObject(d *jsontext.Decoder, loc []any) error {
	if _, err := d.ReadValue(); err != nil {
		return httpkit.JSONError(d, err)
	}
	return httpkit.Invalid(httpkit.Field{Type: "dict_type", Loc: loc, Msg: "Input should be an object"})
}

// members calls f for each member of an object that comes next; f reads its value. The name
// is good until then.
func members(d *jsontext.Decoder, f func(name []byte) error) error {
	if err := readToken(d); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		v, err := d.ReadValue()
		if err != nil {
			return httpkit.JSONError(d, err)
		}
		name := []byte(v[1 : len(v)-1])
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, v); err != nil {
				return httpkit.JSONError(d, err)
			}
		}
		if err := f(name); err != nil {
			return err
		}
	}
	return readToken(d)
}

// skip reads over a value that nobody uses, which must not be nested too deep either.
func skip(d *jsontext.Decoder, bad func(msg string) error) error {
	v, err := d.ReadValue()
	if err != nil {
		return httpkit.JSONError(d, err)
	}
	if msg := checkValue(v); msg != "" {
		return bad(msg)
	}
	return nil
}

// notAnObject is notAnObject for a value of a message, the rest of which is still looked at.
func (m *message) notAnObject(d *jsontext.Decoder, loc ...any) error {
	if _, err := d.ReadValue(); err != nil {
		return httpkit.JSONError(d, err)
	}
	m.refuse("dict_type", "Input should be an object", loc...)
	return nil
}

// decode reads the object of one message.
func (m *message) decode(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		if len(m.loc) == 1 {
			return notAnObject(d, m.loc)
		}
		return m.notAnObject(d)
	}
	return members(d, func(name []byte) error {
		switch string(name) {
		case "sender_number":
			m.hasNumber = true
			return m.text(d, &m.number, "sender_number")
		case "message_body":
			m.hasBody = true
			return m.text(d, &m.body, "message_body")
		case "message_id":
			return m.decodeKey(d)
		case "metadata":
			return m.decodeMetadata(d)
		}
		other := string(name)
		return skip(d, func(msg string) error { m.refuse("value_error", msg, other); return nil })
	})
}

// decodeKey reads message_id.
func (m *message) decodeKey(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		return readToken(d)
	case '"':
		if err := m.text(d, &m.key, "message_id"); err != nil {
			return err
		}
		if msg := checkKey(m.key); msg != "" {
			m.refuse("value_error", "message_id "+msg, "message_id")
		}
		return nil
	}
	return m.text(d, &m.key, "message_id") // which refuses it
}

// readToken reads over a token, such as a null.
func readToken(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return httpkit.JSONError(d, err)
	}
	return nil
}

// text reads a string.
func (m *message) text(d *jsontext.Decoder, s *string, loc ...any) error {
	v, err := d.ReadValue()
	if err != nil {
		return httpkit.JSONError(d, err)
	}
	if v.Kind() != '"' {
		m.refuse("string_type", "Input should be a valid string", loc...)
		return nil
	}
	if b := v[1 : len(v)-1]; bytes.IndexByte(b, '\\') < 0 {
		*s = string(b)
		return nil
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return httpkit.JSONError(d, err)
	}
	*s = string(b)
	return nil
}

// checkKey says what is wrong with a client's own key for a message.
func checkKey(key string) string {
	if key == "" || len(key) > pipeline.MaxKeyBytes {
		return fmt.Sprintf("must have 1 to %d characters", pipeline.MaxKeyBytes)
	}
	for i := range len(key) {
		if c := key[i]; c < ' ' || c > '~' {
			return "must be printable ASCII"
		}
	}
	if key[0] == ' ' || key[len(key)-1] == ' ' {
		return "must not begin or end with a blank"
	}
	return ""
}

func (m *message) decodeMetadata(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		return readToken(d)
	case '{':
	default:
		return m.notAnObject(d, "metadata")
	}
	m.metadata = true
	size, keys := 2, 0
	err := members(d, func(raw []byte) error {
		name := string(raw)
		keys++
		size += len(name) + 4
		switch name {
		case "timestamp":
			return m.text(d, &m.clientTimestamp, "metadata", name)
		case "domain":
			if d.PeekKind() == 'n' {
				return readToken(d)
			}
			m.hasDomain = true
			return m.text(d, &m.domain, "metadata", name)
		}
		v, err := d.ReadValue()
		if err != nil {
			return httpkit.JSONError(d, err)
		}
		if msg := checkValue(v); msg != "" {
			m.refuse("value_error", msg, "metadata", name)
			return nil
		}
		size += len(v)
		if size > 8*pipeline.MaxMetadataBytes || name == "client_id" { // the former is refused below
			return nil
		}
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return err
		}
		kept := v.Clone()
		if err := kept.Compact(); err != nil {
			return err
		}
		// In JSON a name may take several times the bytes that it has.
		size += len(kept) - len(v) + len(quoted) - len(`""`) - len(name)
		m.others = append(m.others, member{quoted, kept})
		return nil
	})
	if err != nil {
		return err
	}
	if size += len(m.clientTimestamp) + len(m.domain); size > pipeline.MaxMetadataBytes {
		m.refuse("too_long", fmt.Sprintf("Metadata must have %d bytes at most", pipeline.MaxMetadataBytes), "metadata")
	}
	if keys > pipeline.MaxMetadataKeys {
		m.refuse("too_long", fmt.Sprintf("Metadata must have %d keys at most", pipeline.MaxMetadataKeys), "metadata")
	}
	return nil
}

// checkValue says what is wrong with a value that is syntactically right: it is nested too
// deep, or has a number that most readers cannot represent.
func checkValue(v jsontext.Value) string {
	depth := 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			for i++; v[i] != '"'; i++ {
				if v[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			if depth++; depth >= httpkit.MaxJSONDepth {
				return "The value is nested too deep"
			}
		case c == '}' || c == ']':
			depth--
		case c == '-' || c >= '0' && c <= '9':
			j := i + 1
			for j < len(v) && bytes.IndexByte([]byte("0123456789+-.eE"), v[j]) >= 0 {
				j++
			}
			if _, err := strconv.ParseFloat(string(v[i:j]), 64); err != nil {
				return "The number is out of range"
			}
			i = j - 1
		}
	}
	return ""
}

// check applies the rules of single values (specification 2.1).
func (m *message) check(minNumber, maxBody int) {
	switch {
	case !m.hasNumber:
		m.refuse("missing", "Field required", "sender_number")
	case !m.refused("sender_number"):
		m.note(pipeline.CheckNumber(m.number, minNumber), "sender_number")
	}
	switch {
	case !m.hasBody:
		m.refuse("missing", "Field required", "message_body")
	case !m.refused("message_body"):
		m.note(pipeline.CheckBody(m.body, maxBody), "message_body")
	}
	if m.hasDomain && !m.refused("domain") {
		m.note(pipeline.CheckDomain(m.domain), "metadata", "domain")
	}
}

// refused reports whether a value of this name was refused already, for its type.
func (m *message) refused(name string) bool {
	return slices.ContainsFunc(m.fields, func(f httpkit.Field) bool { return f.Loc[len(f.Loc)-1] == any(name) })
}

func (m *message) note(err error, loc ...any) {
	if e, ok := errors.AsType[*pipeline.FieldError](err); ok {
		m.refuse(e.Type, e.Reason, loc...)
	}
}

// said is what the client's metadata decides, in one spelling, for the digest. The client's
// time is no part of it, because a repeat may carry another.
func (m *message) said() []byte {
	if len(m.others) == 0 {
		return nil
	}
	sorted := slices.Clone(m.others)
	slices.SortFunc(sorted, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	return appendMembers(nil, sorted)
}

func appendMembers(dst []byte, list []member) []byte {
	for _, o := range list {
		dst = append(append(append(append(dst, ','), o.name...), ':'), o.value...)
	}
	return dst
}

// sealedMetadata is the metadata that goes to the main server: with our time, and the
// caller's name in place of what the client wrote.
func (m *message) sealedMetadata(it *pipeline.Item) ([]byte, error) {
	if !m.metadata {
		return nil, nil
	}
	b := append(make([]byte, 0, 256), `{"timestamp":"`...)
	b = it.QueuedAt.AppendFormat(b, httpkit.TimeLayout)
	b = append(b, `","client_id":`...)
	b, err := jsontext.AppendQuote(b, it.ClientID)
	if err != nil {
		return nil, err
	}
	b = append(append(append(b, `,"domain":"`...), it.Domain...), '"')
	own := slices.ContainsFunc(m.others, func(o member) bool { return string(o.name) == `"client_timestamp"` })
	if t, err := httpkit.ParseTime(m.clientTimestamp); err == nil && !own {
		b = append(b, `,"client_timestamp":"`...)
		b = append(t.AppendFormat(b, time.RFC3339Nano), '"')
	}
	return append(appendMembers(b, m.others), '}'), nil
}
