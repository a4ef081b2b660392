package client

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// readMeta reads a meta line. The broker prints all of them in one form, which is read
// by hand; any other JSON is the library's.
func readMeta(line []byte) (m Meta, err error) {
	if readPlainMeta(string(line), &m) {
		return m, nil
	}
	m = Meta{}
	err = json.Unmarshal(line, &m)
	return m, err
}

// readPlainMeta reads the form without escapes and without a dead letter's members.
func readPlainMeta(s string, m *Meta) bool {
	var stamp string
	for _, f := range [...]struct {
		before string
		to     *string
	}{
		{`{"queue":"`, &m.Queue}, {`","publisher":"`, &m.Publisher}, {`","exchange":"`, &m.Exchange},
		{`","key":"`, &m.Key}, {`","time":"`, &stamp},
	} {
		rest, ok := strings.CutPrefix(s, f.before)
		if !ok {
			return false
		}
		n := plainLength(rest)
		*f.to, s = rest[:n], rest[n:]
	}
	rest, ok := strings.CutPrefix(s, `","attempt":`)
	number, more := strings.CutSuffix(rest, "}")
	if !ok || !more {
		return false
	}
	attempt, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return false
	}
	m.Attempt = uint32(attempt)
	m.Time, err = time.Parse(time.RFC3339, stamp)
	return err == nil
}

// plainLength is how much of s stands in a JSON string for itself.
func plainLength(s string) int {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}
