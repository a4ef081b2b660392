package text_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol/text"
)

func TestCheckMessage(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		id       string // "" means that it must be refused
		reason   string
	}{
		{name: "plain", in: `{"message_id":"a"}`, id: "a"},
		{name: "white space", in: "  { \"message_id\"\t: \"a\" , \"n\" : 1 }\r", id: "a"},
		{name: "other members are free", in: `{"x":[1,-2.5e+7,{"message_id":"inner"}],"message_id":"a","y":null}`, id: "a"},
		{name: "escaped name", in: `{"message\u005fid":"a"}`, id: "a"},
		{name: "escaped value", in: `{"message_id":"\u0061\/b"}`, id: "a/b"},
		{name: "surrogate pair", in: `{"message_id":"\ud83d\ude00"}`, id: "😀"},
		{name: "non-ASCII", in: `{"message_id":"پیام","ciphertext":"متن"}`, id: "پیام"},
		{name: "half a surrogate pair elsewhere", in: `{"message_id":"a","x":"\ud83d"}`, id: "a"},

		{name: "missing", in: `{"nonce":"AA=="}`, reason: "missing field message_id"},
		{name: "empty object", in: `{}`, reason: "missing field message_id"},
		{name: "repeated", in: `{"message_id":"a","message_id":"a"}`, reason: "repeated field message_id"},
		{name: "repeated with an escape", in: `{"message_id":"a","message\u005Fid":"b"}`, reason: "repeated field message_id"},
		{name: "number", in: `{"message_id":1}`, reason: "message_id is not a string"},
		{name: "empty id", in: `{"message_id":""}`, reason: "message_id is empty"},
		{name: "space in id", in: `{"message_id":"a b"}`, reason: "white space"},
		{name: "escaped line feed in id", in: `{"message_id":"a\nMessage: b {}"}`, reason: "white space"},
		{name: "escaped control character in id", in: `{"message_id":"a\u0000"}`, reason: "control character"},
		{name: "half a surrogate pair in id", in: `{"message_id":"\ud83d"}`, reason: "not valid Unicode"},
		{name: "swapped surrogates in id", in: `{"message_id":"\ude00\ud83d"}`, reason: "not valid Unicode"},
		{name: "long id", in: `{"message_id":"` + strings.Repeat("a", 256) + `"}`, reason: "longer than 255"},
		{name: "not JSON", in: `notjson`, reason: "expected a JSON object"},
		{name: "array", in: `[{"message_id":"a"}]`, reason: "expected a JSON object"},
		{name: "empty", in: ``, reason: "unexpected end"},
		{name: "cut", in: `{"message_id":"a"`, reason: "unexpected end"},
		{name: "cut in a string", in: `{"message_id":"a`, reason: "unexpected end"},
		{name: "trailing", in: `{"message_id":"a"} x`, reason: "trailing characters"},
		{name: "trailing comma", in: `{"message_id":"a",}`, reason: "expected a member name"},
		{name: "leading zero", in: `{"message_id":"a","n":01}`, reason: "expected"},
		{name: "control character", in: "{\"message_id\":\"a\",\"x\":\"\x01\"}", reason: "control character"},
		{name: "zero byte", in: "{\"message_id\":\"a\"\x00}", reason: "expected a member"},
		{name: "bad escape", in: `{"message_id":"a","x":"\x"}`, reason: "invalid escape"},
		{name: "invalid UTF-8", in: "{\"message_id\":\"a\",\"x\":\"\xff\"}", reason: "invalid UTF-8"},
		{name: "surrogate as UTF-8", in: "{\"message_id\":\"a\",\"x\":\"\xed\xa0\x80\"}", reason: "invalid UTF-8"},
		{name: "overlong UTF-8", in: "{\"message_id\":\"a\",\"x\":\"\xc0\xaf\"}", reason: "invalid UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := text.CheckMessage([]byte(tt.in))
			if tt.id == "" {
				var fe *text.FormatError
				if !errors.As(err, &fe) || !strings.Contains(err.Error(), tt.reason) {
					t.Fatalf("error %v, want %q", err, tt.reason)
				}
				return
			}
			if err != nil || string(e.ID) != tt.id {
				t.Fatalf("id %q, error %v, want id %q", e.ID, err, tt.id)
			}
			if want := strings.TrimSpace(tt.in); string(e.Body) != want {
				t.Errorf("body %q, want %q", e.Body, want)
			}
		})
	}
}

func TestDepthIsBounded(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(`{"message_id":"a","x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}")
	}
	if _, err := text.CheckMessage(nested(text.MaxDepth)); err != nil {
		t.Errorf("depth %d: %v", text.MaxDepth, err)
	}
	if _, err := text.CheckMessage(nested(text.MaxDepth + 1)); err == nil {
		t.Errorf("depth %d was accepted", text.MaxDepth+1)
	}
	if _, err := text.CheckMessage(bytes.Repeat([]byte(`{"a":`), 1<<20)); err == nil {
		t.Error("a million open objects were accepted")
	}
}

func TestCheckBatch(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string // bodies; nil means refused
	}{
		{`[]`, []string{}},
		{` [ ] `, []string{}},
		{`[{"message_id":"a"}, {"x": 1, "message_id": "b"}]`, []string{`{"message_id":"a"}`, `{"x": 1, "message_id": "b"}`}},
		{`[{"message_id":"a"},]`, nil},
		{`[{"message_id":"a"}{"message_id":"b"}]`, nil},
		{`[{"message_id":"a"},{"x":1}]`, nil},
		{`[{"message_id":"a"},3]`, nil},
		{`{"message_id":"a"}`, nil},
		{`[{"message_id":"a"}] []`, nil},
		{`[`, nil},
	} {
		out, err := text.CheckBatch(nil, []byte(tt.in))
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%s: error %v", tt.in, err)
			continue
		}
		var got []string
		for _, e := range out {
			got = append(got, string(e.Body))
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestCheckBatchIsBounded(t *testing.T) {
	batch := func(n int) []byte {
		return []byte("[" + strings.TrimSuffix(strings.Repeat(`{"message_id":"a"},`, n), ",") + "]")
	}
	if out, err := text.CheckBatch(nil, batch(text.MaxBatch)); err != nil || len(out) != text.MaxBatch {
		t.Errorf("%d messages: got %d, %v", text.MaxBatch, len(out), err)
	}
	if out, err := text.CheckBatch(nil, batch(text.MaxBatch+1)); err == nil || len(out) != 0 {
		t.Errorf("%d messages were accepted", text.MaxBatch+1)
	}
}

func TestCheckMessageDoesNotAllocate(t *testing.T) {
	body := []byte(sample(256))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := text.CheckMessage(body); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// reference decides with encoding/json what CheckMessage must say.
func reference(data []byte) (id string, ok bool) {
	if !json.Valid(data) || !utf8.Valid(data) || depthOf(data) > text.MaxDepth {
		return "", false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", false
	}
	found := 0
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return "", false
		}
		if name != "message_id" {
			continue
		}
		found++
		if value[0] != '"' || json.Unmarshal(value, &id) != nil {
			return "", false
		}
		// encoding/json puts U+FFFD for half a surrogate pair. That is no character, and
		// refused, unlike a U+FFFD that the sender wrote, raw or with an escape.
		spelled := strings.ReplaceAll(string(value), `\\`, "")
		wrote := strings.Count(spelled, "\ufffd") + strings.Count(strings.ToLower(spelled), `\ufffd`)
		if strings.Count(id, "\ufffd") != wrote {
			return "", false
		}
	}
	return id, found == 1 && sealmq.CheckName("message_id", id) == nil
}

func depthOf(data []byte) (deepest int) {
	d := json.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return deepest
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// FuzzCheckMessage demands that CheckMessage and encoding/json agree on every input.
func FuzzCheckMessage(f *testing.F) {
	for _, s := range []string{
		sample(20), `{"message_id":"a","x":[{},[],"",0,-0.1e-2,true,false,null]}`,
		`{"message\u005fid":"\u0061"}`, `{"message_id":"a","message_id":"b"}`, `{"message_id":"\ud83d\ude00"}`,
		"{\"message_id\":\"\xff\"}", `{"a":1e5,"message_id":"x"}`, `[]`, `{`, `{"message_id":"a"} `, "{\"x\":\"\u00e9\",\"message_id\":\"z\"}",
		`{"12345678":"1234567\\","message_id":"12345678"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, ok := reference(data)
		e, err := text.CheckMessage(data)
		if ok != (err == nil) || ok && string(e.ID) != want {
			t.Fatalf("%q: got id %q, error %v; encoding/json says %v with id %q", data, e.ID, err, ok, want)
		}
		if ok && !bytes.Equal(e.Body, bytes.Trim(data, " \t\r\n")) {
			t.Fatalf("%q: body %q", data, e.Body)
		}
	})
}

// FuzzCheckBatch demands the same of arrays, with the exact bytes of each element.
func FuzzCheckBatch(f *testing.F) {
	for _, s := range []string{`[]`, `[` + sample(8) + `, ` + sample(9) + `]`, `[{"message_id":"a"},{}]`, `[[]]`, `{}`, ` [ {"message_id":"b"} ] `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var elements []json.RawMessage
		ok := len(bytes.Trim(data, " \t\r\n")) > 0 && bytes.Trim(data, " \t\r\n")[0] == '[' && json.Unmarshal(data, &elements) == nil
		for _, e := range elements {
			if _, good := reference(e); !good {
				ok = false
			}
		}
		out, err := text.CheckBatch(nil, data)
		if ok != (err == nil) {
			t.Fatalf("%q: error %v, encoding/json says %v", data, err, ok)
		}
		for i, e := range out {
			if !bytes.Equal(e.Body, elements[i]) {
				t.Fatalf("%q: element %d is %q, want %q", data, i, e.Body, elements[i])
			}
		}
	})
}

func BenchmarkCheckMessage(b *testing.B) {
	for _, n := range []int{256, 4096, 60_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			body := []byte(sample(n))
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := text.CheckMessage(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodingJSONValid(b *testing.B) {
	body := []byte(sample(256))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		json.Valid(body)
	}
}
