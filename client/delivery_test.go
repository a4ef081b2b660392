package client

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
)

// What is read by hand is what the library would have read, and what is not plain is
// left to it.
func TestMetaIsReadAsJSON(t *testing.T) {
	plain := []byte(`{"queue":"q","publisher":"p","exchange":"x","key":"k","time":"2026-01-02T03:04:05.006Z","attempt":3}`)
	var d sealmq.Delivery
	if !readPlainMeta(string(plain), &d) || d.Attempt != 3 || d.Queue != "q" {
		t.Errorf("the usual form is not read by hand: %+v", d)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z."\\]{0,8}`), rapid.String())
		want := sealmq.Delivery{
			Message: sealmq.Message{Publisher: text.Draw(t, "publisher"), Exchange: text.Draw(t, "exchange"), Key: text.Draw(t, "key"),
				Published: time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")).UTC()},
			Queue: text.Draw(t, "queue"), Attempt: rapid.Uint32().Draw(t, "attempt"), DeathReason: rapid.SampledFrom([]string{"", "expired"}).Draw(t, "reason"),
		}
		members := map[string]any{"queue": want.Queue, "publisher": want.Publisher, "exchange": want.Exchange, "key": want.Key,
			"time": want.Published, "attempt": want.Attempt}
		if want.DeathReason != "" {
			members["death_reason"] = want.DeathReason
		}
		line, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		// As the broker prints it, if nothing needs an escape.
		usual := fmt.Appendf(nil, `{"queue":%q,"publisher":%q,"exchange":%q,"key":%q,"time":%q,"attempt":%d}`,
			want.Queue, want.Publisher, want.Exchange, want.Key, want.Published.Format("2006-01-02T15:04:05.000Z"), want.Attempt)
		if want.DeathReason == "" && json.Valid(usual) {
			line = usual
		}
		if n := rapid.IntRange(0, len(line)).Draw(t, "cut"); rapid.Bool().Draw(t, "is cut") {
			if _, err := readMeta(line[:n]); (err == nil) != (n == len(line)) {
				t.Fatalf("%s: %v", line[:n], err)
			}
		}
		if got, err := readMeta(line); err != nil || !cmp.Equal(got, want) {
			t.Fatalf("%s: got %+v %v, want %+v", line, got, err, want)
		}
	})
}
