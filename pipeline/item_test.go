package pipeline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/pipeline"
)

func TestCheckNumber(t *testing.T) {
	for _, good := range []string{"+4915200000000", "+4915211111111", "+1234567890", "+1234567890123",
		"+44123456789", "+19876543210", "+442012345678", "+1234567", "+123456789012345"} {
		if err := pipeline.CheckNumber(good, pipeline.DefaultMinNumber); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "1234567890", "123456789", "+abc123", "+123", "+0123456789", "+1-234-567-890",
		"+1 234 567 890", "+1234567890123456", "+1234567890\n", "+١٢٣٤٥٦٧٨٩٠", "+123456\x00", "++1234567", " +1234567890"} {
		var field *pipeline.FieldError
		if err := pipeline.CheckNumber(bad, pipeline.DefaultMinNumber); !errors.As(err, &field) || field.Field != "sender_number" {
			t.Errorf("%q: got %v, want a FieldError", bad, err)
		}
	}
}

func TestCheckBody(t *testing.T) {
	for _, c := range []struct {
		body string
		ok   bool
	}{
		{"a", true}, {strings.Repeat("Test ", 195), true}, {strings.Repeat("é", 1000), true}, {strings.Repeat("é", 1001), false},
		{"", false}, {" \t\n\u00a0\u2003", false}, {"\xff", false}, {"<script>alert(1)</script>'; DROP TABLE messages; --", true},
	} {
		if err := pipeline.CheckBody(c.body, pipeline.DefaultMaxBody); (err == nil) != c.ok {
			t.Errorf("%.20q (%d bytes): %v", c.body, len(c.body), err)
		}
	}
}

func TestCheckDomainAndMessageID(t *testing.T) {
	for domain, ok := range map[string]bool{"default": true, "a": true, "shop.example": true, "-a": false, "a.": false, "": false,
		"a b": false, strings.Repeat("a", 255): true, strings.Repeat("a", 256): false} {
		if err := pipeline.CheckDomain(domain); (err == nil) != ok {
			t.Errorf("domain %q: %v", domain, err)
		}
	}
	for id, ok := range map[string]bool{"test_1764309547": true, "test-1795278800669": true, "": false, strings.Repeat("a", 37): false,
		"a b": false, "a\n": false, "0b7f6c1e-2d5a-4c39-9f1e-6a2f3c9d7e44": true} {
		if err := pipeline.CheckMessageID(id); (err == nil) != ok {
			t.Errorf("message id %q: %v", id, err)
		}
	}
}

func TestParseItem(t *testing.T) {
	it, err := pipeline.ParseItem([]byte(`{"message_id":"test-msg-1","sender_number":"+4915200000000","message_body":"hello",
		"client_id":"acme-01","queued_at":"2026-03-01T08:15:30.789012Z","attempt_count":3,"whatever":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if it.Domain != pipeline.DefaultDomain || it.AttemptCount != 3 || it.MessageBody != "hello" {
		t.Errorf("parsed as %+v", it)
	}
	for _, bad := range []string{"", "null", "[]", "{}", `{"message_id":"a"}`, `{"message_id":"a b","client_id":"c"}`,
		`{"message_id":"a","client_id":"c","attempt_count":-1}`, `{"message_id":"a","client_id":"c","enc":"v9","sealed":{}}`,
		`{"message_id":"a","client_id":"c","enc":"hpke-v1"}`, `{"message_id":"a","client_id":"c","sealed":{}}`,
		`{"message_id":7,"client_id":"c"}`, `{"message_id":"a","client_id":"c","client_id":"d"}`, "{\"message_id\":\"a\",\"client_id\":\"\xff\"}"} {
		if it, err := pipeline.ParseItem([]byte(bad)); !errors.Is(err, pipeline.ErrMalformed) {
			t.Errorf("%s: parsed as %+v, error %v", bad, it, err)
		}
	}
}

func FuzzParseItem(f *testing.F) {
	f.Add([]byte(`{"message_id":"a","client_id":"c","enc":"hpke-v1","sealed":{"x":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		it, err := pipeline.ParseItem(b)
		if err == nil && (it.MessageID == "" || it.ClientID == "" || it.Domain == "") {
			t.Errorf("took %q as %+v", b, it)
		}
		if err != nil && !errors.Is(err, pipeline.ErrMalformed) {
			t.Errorf("%q: %v", b, err)
		}
	})
}
