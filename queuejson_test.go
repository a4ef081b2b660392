package sealmq_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// full has every option set; the golden file shows how each is printed.
var full = sealmq.QueueOptions{
	MaxMessages:   1_000_000,
	MaxBytes:      1 << 30,
	TTL:           36*time.Hour + 30*time.Second,
	DeliveryLimit: 5,
	AckTimeout:    1500 * time.Millisecond,
	Prefetch:      250,
	MaxLineBytes:  131_072,
	DropOldest:    true,
	Sealed:        sealmq.SealedSuites("hpke-x25519-aes256gcm", "another", "another"),
}

var defaults = sealmq.QueueOptions{}.Normalize()

func TestQueueOptionsGolden(t *testing.T) {
	got, err := json.MarshalIndent([]sealmq.QueueOptions{full, {}, defaults}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "queue_options.golden.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("printed options differ from %s (-want +got):\n%s", path, diff)
	}
	var back []sealmq.QueueOptions
	if err := json.Unmarshal(want, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sealmq.QueueOptions{full, {}, defaults}, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestParseQueueOptions(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       sealmq.QueueOptions
	}{
		{"nothing", `{}`, sealmq.QueueOptions{}},
		{"spaces", " { \"prefetch\" : 7 } ", sealmq.QueueOptions{Prefetch: 7}},
		{"duration", `{"ttl":"1h30m"}`, sealmq.QueueOptions{TTL: 90 * time.Minute}},
		{"escaped member", `{"\u0074tl":"1s"}`, sealmq.QueueOptions{TTL: time.Second}},
		{"zero is no limit", `{"ttl":"0s","max_messages":0,"max_bytes":0}`, sealmq.QueueOptions{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sealmq.ParseQueueOptions([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseQueueOptionsRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing at all":     ``,
		"null":               `null`,
		"list":               `[]`,
		"string":             `"ttl"`,
		"cut":                `{"prefetch":7`,
		"cut value":          `{"prefetch":`,
		"unknown":            `{"durable":true}`,
		"other case":         `{"Prefetch":7}`,
		"twice":              `{"prefetch":7,"prefetch":8}`,
		"twice, escaped":     `{"prefetch":7,"pref\u0065tch":8}`,
		"rest":               `{} {}`,
		"rest of a line":     `{}x`,
		"number as text":     `{"prefetch":"7"}`,
		"fraction":           `{"max_messages":1.5}`,
		"null member":        `{"max_bytes":null}`,
		"null duration":      `{"ttl":null}`,
		"duration as number": `{"ttl":30}`,
		"no unit":            `{"ttl":"30"}`,
		"flag as number":     `{"drop_oldest":1}`,
		"null flag":          `{"drop_oldest":null}`,
		"below zero":         `{"max_messages":-1}`,
		"limit below zero":   `{"delivery_limit":-1}`,
		"too short a ttl":    `{"ttl":"1us"}`,
		"too much credit":    `{"prefetch":10001}`,
		"too short a line":   `{"max_line_bytes":10}`,
		"too long a line":    `{"max_line_bytes":4194305}`,
		"negative timeout":   `{"ack_timeout":"-1s"}`,
		"duration overflow":  `{"ttl":"99999999999h"}`,
		"no credit":          `{"prefetch":0}`,
		"no delivery":        `{"delivery_limit":0}`,
		"no ack timeout":     `{"ack_timeout":"0s"}`,
		"no line":            `{"max_line_bytes":0}`,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := sealmq.ParseQueueOptions([]byte(text))
			if sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Fatalf("error %v, want code %s", err, sealmq.BadArgument)
			}
			if o != (sealmq.QueueOptions{}) {
				t.Errorf("options %+v with an error", o)
			}
		})
	}
}

func TestParseQueueOptionsErrorIsOneShortLine(t *testing.T) {
	_, err := sealmq.ParseQueueOptions([]byte(`{"` + strings.Repeat("x", 1000) + `\n":1}`))
	var e *sealmq.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v has no code", err)
	}
	if strings.ContainsAny(e.Message, "\r\n") || len(e.Message) > 100 {
		t.Errorf("message %q is not one short line", e.Message)
	}
}

func FuzzParseQueueOptions(f *testing.F) {
	for _, s := range []string{`{}`, `{"ttl":"1h","prefetch":3}`, `{"prefetch":3,"prefetch":3}`, `{"ttl":`, `[{}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := sealmq.ParseQueueOptions(text)
		if err != nil {
			if sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Fatalf("%q: error %v without the code", text, err)
			}
			return
		}
		if err := o.Validate(); err != nil {
			t.Fatalf("%q: parsed to invalid options: %v", text, err)
		}
		printed, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		back, err := sealmq.ParseQueueOptions(printed)
		if err != nil || back != o {
			t.Fatalf("%q: %+v printed as %s and read as %+v (%v)", text, o, printed, back, err)
		}
	})
}
