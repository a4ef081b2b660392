package framelog_test

import (
	"testing"

	"github.com/sealmq/sealmq/internal/framelog"
)

func frame(dst []byte, synced int, payload string) []byte {
	return framelog.AppendFrame(dst, int64(len(dst)), int64(synced), func(b []byte) []byte { return append(b, payload...) })
}

func FuzzFrames(f *testing.F) {
	one := frame(nil, 0, "first")
	f.Add(one)
	f.Add(frame(one, len(one), "second"))
	f.Add(append(one, 0, 0, 0, 1, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		good, err := framelog.Scan("f", data, func(_ int64, p []byte) error {
			if len(p) == 0 {
				t.Error("an empty frame")
			}
			again = append(again, p...)
			return nil
		})
		if good < 0 || good > int64(len(data)) || err == nil && good < int64(len(data)) && len(again) > len(data) {
			t.Errorf("it ends at %d of %d: %v", good, len(data), err)
		}
	})
}
