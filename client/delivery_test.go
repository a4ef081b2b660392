package client

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What is read by hand is what the library would have read, and what is not plain is
// left to it.
func TestMetaIsReadAsJSON(t *testing.T) {
	plain := []byte(`{"queue":"q","publisher":"p","exchange":"x","key":"k","time":"2026-01-02T03:04:05.006Z","attempt":3}`)
	var m Meta
	if !readPlainMeta(string(plain), &m) || m.Attempt != 3 || m.Queue != "q" {
		t.Errorf("the usual form is not read by hand: %+v", m)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z."\\]{0,8}`), rapid.String())
		line, err := json.Marshal(Meta{Queue: text.Draw(t, "queue"), Publisher: text.Draw(t, "publisher"), Exchange: text.Draw(t, "exchange"),
			Key: text.Draw(t, "key"), Time: time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")).UTC(),
			Attempt: rapid.Uint32().Draw(t, "attempt"), DeathReason: rapid.SampledFrom([]string{"", "expired"}).Draw(t, "reason")})
		if err != nil {
			t.Fatal(err)
		}
		if n := rapid.IntRange(0, len(line)).Draw(t, "cut"); rapid.Bool().Draw(t, "is cut") {
			line = line[:n]
		}
		var want Meta
		wantErr := json.Unmarshal(line, &want)
		got, err := readMeta(line)
		if (err == nil) != (wantErr == nil) || err == nil && !cmp.Equal(got, want) {
			t.Fatalf("%s: got %+v %v, want %+v %v", line, got, err, want, wantErr)
		}
	})
}
