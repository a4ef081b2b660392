package portal

import "testing"

func TestSizesThatPeopleType(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "50,000": 50000, "1 GB": 1e9, "1gb": 1e9, "1.5 MiB": 3 << 19, " 32MiB ": 32 << 20, "7 b": 7,
		"9223372036854775807": 1<<63 - 1, "9223372036854775808": -1, "8388608 TiB": -1, "1 XB": -1, "x": -1, "-1": -1, "1.5": -1, "0.1 KiB": -1} {
		n, ok := sizeOf(text)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q is %d, want %d", text, n, want)
		}
	}
	for _, n := range []int64{0, 1, 1000, 1 << 10, 5 << 30, 1 << 40, 1<<63 - 1} {
		if got, ok := sizeOf(typedSizeOf(n)); !ok || got != n {
			t.Errorf("%d is written as %s, which is read as %d", n, typedSizeOf(n), got)
		}
	}
	for text, want := range map[string]string{"7 days": "168h", "1d": "24h", "30s": "30s", "90 min": "90m", "24H": "24h", "1h30m": "1h30m", "": "", "soon": "soon", "5": "5"} {
		if got := durationOf(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{"168h0m0s": "7 days", "24h0m0s": "1 day", "36h": "36 hours", "30s": "30 seconds", "1m30s": "90 seconds", "250ms": "250ms", "": ""} {
		if got := durationText(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
