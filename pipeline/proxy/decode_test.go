package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
)

// FuzzDecode: whatever arrives, the decoder returns, and what it accepts is what other
// readers of JSON see too.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"sender_number": "+4915200000000", "message_body": "Test message"}`,
		`{"sender_number":"+4915200000000","message_body":"\u00e9\ud83d\ude00","message_id":"k","metadata":{"domain":"d","timestamp":"2026-03-01T08:15:30Z","n":[1,{"a":1e5}]}}`,
		`{"\u0073ender_number":"+4915200000000","message_body":"x","metadata":null,"x":[[[]]]}`,
		`{"metadata":{"client_id":"x","k":"\\\""}}`, `[]`, `{`, ``, `{"messages":[{}]}`, "{\"x\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var b buffer
		var m message
		err := decodeMessage(b.reset(body), &m)
		var e *httpkit.Error
		if err != nil && (!errors.As(err, &e) || len(e.Fields) == 0) {
			t.Fatalf("an error without a place: %v", err)
		}
		if _, err := decodeBatch(b.reset(body)); err != nil && !errors.As(err, &e) {
			t.Fatalf("batch: %v", err)
		}
		if err != nil {
			return
		}
		if m.check(pipeline.DefaultMinNumber, pipeline.DefaultMaxBody); len(m.fields) > 0 {
			return
		}
		var other struct {
			SenderNumber string `json:"sender_number"`
			MessageBody  string `json:"message_body"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		if err := d.Decode(&other); err != nil {
			t.Fatalf("accepted, and no JSON: %v", err)
		}
		if !bytes.Contains(bytes.ToLower(body), []byte(`\u`)) && (other.SenderNumber != m.number || other.MessageBody != m.body) &&
			bytes.Count(bytes.ToLower(body), []byte("sender_number")) == 1 && bytes.Count(bytes.ToLower(body), []byte("message_body")) == 1 {
			t.Errorf("read %q %q, others %q %q", m.number, m.body, other.SenderNumber, other.MessageBody)
		}
		it := pipeline.Item{ClientID: "c", Domain: "d"}
		meta, err := m.sealedMetadata(&it)
		if err != nil || m.metadata && !json.Valid(meta) {
			t.Errorf("metadata %s, %v", meta, err)
		}
		if meta != nil && httpkit.CheckJSON(meta) != nil {
			t.Errorf("metadata %s: %v", meta, httpkit.CheckJSON(meta))
		}
	})
}
