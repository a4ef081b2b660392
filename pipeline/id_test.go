package pipeline_test

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

func TestMessageIDs(t *testing.T) {
	at := time.UnixMilli(0x0190_1234_5678)
	if id := pipeline.NewMessageID(at); !regexp.MustCompile(`^01901234-5678-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%s is no UUID version 7 of its time", id)
	}
	if first := pipeline.NewMessageID(at); first == pipeline.NewMessageID(at) {
		t.Error("two ids of one millisecond are equal")
	}
	a, b := bytes.Repeat([]byte{1}, pipeline.IDKeyBytes), bytes.Repeat([]byte{2}, pipeline.IDKeyBytes)
	id := pipeline.MessageIDFor(a, "acme", "order-1")
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%s is no UUID version 8", id)
	}
	if id != pipeline.MessageIDFor(a, "acme", "order-1") {
		t.Error("the same key gives another id")
	}
	for _, other := range []string{pipeline.MessageIDFor(b, "acme", "order-1"), pipeline.MessageIDFor(a, "acm", "eorder-1"),
		pipeline.MessageIDFor(a, "acme", "order-2"), pipeline.MessageIDFor(a, "Acme", "order-1")} {
		if other == id {
			t.Error("another secret, client or key gives the same id")
		}
	}
}

func TestDigestOf(t *testing.T) {
	secret := make([]byte, pipeline.IDKeyBytes)
	it := pipeline.Item{ClientID: "acme", Domain: "default"}
	c := pipeline.Content{SenderNumber: "+4915200000000", MessageBody: "hello"}
	d := pipeline.DigestOf(secret, &it, &c)
	if !bytes.Equal(d, pipeline.DigestOf(secret, &it, &c)) {
		t.Error("the digest of the same content differs")
	}
	moved := pipeline.Content{SenderNumber: "+491520000000", MessageBody: "0hello"}
	if bytes.Equal(d, pipeline.DigestOf(secret, &it, &moved)) {
		t.Error("contents that differ in where one part ends have one digest")
	}
}
