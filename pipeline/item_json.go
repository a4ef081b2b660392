package pipeline

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
)

// AppendJSON appends the item as one line of JSON. It is what json.Marshal makes, for what
// costs a queue the most: it copies Sealed and Metadata, which must be valid JSON, and does
// not read them.
func (it *Item) AppendJSON(dst []byte) ([]byte, error) {
	dst = appendString(append(dst, `{"message_id":`...), it.MessageID)
	dst = appendString(append(dst, `,"client_id":`...), it.ClientID)
	dst = appendText(dst, "client_key", it.ClientKey)
	dst = appendText(dst, "domain", it.Domain)
	var err error
	dst = append(dst, `,"queued_at":"`...)
	if dst, err = it.QueuedAt.AppendText(dst); err != nil {
		return nil, fmt.Errorf("queued_at: %w", err)
	}
	dst = append(dst, `","attempt_count":`...)
	dst = strconv.AppendInt(dst, int64(it.AttemptCount), 10)
	dst = appendText(dst, "enc", it.Enc)
	if dst, err = appendRaw(dst, "sealed", it.Sealed); err != nil {
		return nil, err
	}
	dst = appendText(dst, "sender_number", it.SenderNumber)
	dst = appendText(dst, "message_body", it.MessageBody)
	if dst, err = appendRaw(dst, "metadata", it.Metadata); err != nil {
		return nil, err
	}
	if len(it.Digest) > 0 {
		dst = append(dst, `,"digest":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, it.Digest), '"')
	}
	return append(dst, '}'), nil
}

func appendText(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(appendName(dst, name), value)
}

func appendName(dst []byte, name string) []byte {
	return append(append(append(dst, `,"`...), name...), `":`...)
}

// appendString appends a JSON string. Most need no escapes.
func appendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // there is no such string
				quoted = []byte(`""`)
			}
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// appendRaw appends a member that is JSON already, on one line.
func appendRaw(dst []byte, name string, value json.RawMessage) ([]byte, error) {
	if len(value) == 0 {
		return dst, nil
	}
	dst = appendName(dst, name)
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return append(dst, value...), nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return nil, fmt.Errorf("%s is not JSON: %w", name, err)
	}
	return append(dst, compact.Bytes()...), nil
}
