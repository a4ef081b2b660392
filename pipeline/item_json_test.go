package pipeline_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pipeline"
)

func TestAppendJSONIsWhatMarshalMakes(t *testing.T) {
	now := time.Date(2026, 11, 29, 17, 0, 0, 123456000, time.UTC)
	for _, it := range []pipeline.Item{
		{},
		{MessageID: "m-1", ClientID: "acme", QueuedAt: now, Enc: pipeline.EncHPKE, Sealed: json.RawMessage(`{"text":"a b"}`), Digest: []byte{1, 2, 3}},
		{MessageID: "m-2", ClientID: "a\"b\\c\nd\x00é\u2028😀", ClientKey: "key", Domain: "example.org", QueuedAt: now.In(time.FixedZone("", 3600)), AttemptCount: 7},
		{MessageID: "m-3", ClientID: "acme", SenderNumber: "+4915200000000", MessageBody: "<&>", Metadata: json.RawMessage("{\r\n \"a\":\t[1, 2]\n}")},
	} {
		got, err := it.AppendJSON([]byte("before "))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := bytes.CutPrefix(got, []byte("before "))
		if !ok || bytes.ContainsAny(got, "\r\n") {
			t.Errorf("%q", got)
		}
		marshalled, err := json.Marshal(it)
		if err != nil {
			t.Fatal(err)
		}
		var a, b pipeline.Item
		if err := json.Unmarshal(got, &a); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if err := json.Unmarshal(marshalled, &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, a); diff != "" {
			t.Errorf("%s (-marshalled +appended):\n%s", got, diff)
		}
	}
}

// TestAppendJSONHasEveryField fails when a field of Item is added and not appended.
func TestAppendJSONHasEveryField(t *testing.T) {
	it := pipeline.Item{MessageID: "m", ClientID: "c", ClientKey: "k", Domain: "d", QueuedAt: time.Now().UTC(), AttemptCount: 1, Enc: "e",
		Sealed: json.RawMessage("1"), SenderNumber: "n", MessageBody: "b", Metadata: json.RawMessage("2"), Digest: []byte("x")}
	got, err := it.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(it)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAppendJSONRefuses(t *testing.T) {
	for _, it := range []pipeline.Item{
		{Sealed: json.RawMessage("{\n")},
		{Metadata: json.RawMessage("\r")},
		{QueuedAt: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if got, err := it.AppendJSON(nil); err == nil {
			t.Errorf("%q", got)
		}
	}
}
