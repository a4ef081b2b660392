package atrest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf16"
)

// testKey has the bytes n, n+1, ….
func testKey(n byte) (k Key) {
	for i := range k.secret {
		k.secret[i] = n + byte(i)
	}
	return k
}

func utf16File(text string, big bool) (data []byte) {
	for _, u := range utf16.Encode([]rune("\uFEFF" + text)) {
		if big {
			data = append(data, byte(u>>8), byte(u))
		} else {
			data = append(data, byte(u), byte(u>>8))
		}
	}
	return data
}

func TestKeyFilesInEveryForm(t *testing.T) {
	k := testKey(0xE8) // has bytes that differ in the two alphabets of base64
	raw := k.secret[:]
	text := base64.URLEncoding.EncodeToString(raw)
	if !strings.ContainsAny(text, "-_") {
		t.Fatal("the key does not tell the alphabets apart")
	}
	marked := append([]byte{0xFF, 0xFE}, raw[2:]...) // a raw key that begins like UTF-16
	for name, data := range map[string][]byte{
		"base64":             []byte(text),
		"line":               []byte(text + "\n"),
		"windows line":       []byte(text + "\r\n"),
		"white space":        []byte("\r\n \t" + text + " \r\n\r\n\t"),
		"UTF-8 mark":         []byte("\xEF\xBB\xBF" + text + "\r\n"),
		"UTF-16":             utf16File(text+"\r\n", false),
		"UTF-16, big":        utf16File(text+"\r\n", true),
		"without padding":    []byte(strings.TrimRight(text, "=")),
		"standard alphabet":  []byte(base64.StdEncoding.EncodeToString(raw)),
		"hex":                []byte(hex.EncodeToString(raw) + "\n"),
		"upper hex":          []byte(strings.ToUpper(hex.EncodeToString(raw))),
		"hex in UTF-16":      utf16File(hex.EncodeToString(raw), false),
		"raw":                raw,
		"raw, like UTF-16":   marked,
		"the file we create": k.file(),
	} {
		want := k
		if name == "raw, like UTF-16" {
			copy(want.secret[:], marked)
		}
		if got, err := ParseKey(data); err != nil || got != want {
			t.Errorf("%s: %v, or another key", name, err)
		}
	}
}

func TestNoKeyFiles(t *testing.T) {
	k := testKey(7)
	text := base64.URLEncoding.EncodeToString(k.secret[:])
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, "it is empty"},
		"blank":           {[]byte(" \r\n"), "it is empty"},
		"only a mark":     {[]byte{0xFF, 0xFE}, "it is empty"},
		"password":        {[]byte("correct horse battery staple 123"), "it has 32 characters"},
		"utf-16 password": {utf16File("horse-battery-7", false), "it has 15 characters"},
		"short":           {[]byte(text[:40]), "it has 40 characters"},
		"two keys":        {[]byte(text + "\n" + text), "it has 89 characters"},
		"128 bits":        {[]byte(hex.EncodeToString(k.secret[:16])), "it has 32 characters"},
		"no hex":          {bytes.Repeat([]byte("g1"), 32), "not all hexadecimal"},
		"no base64":       {[]byte(strings.Repeat("!", 44)), "not base64"},
		"33 raw bytes":    {append(k.secret[:], 0x80), "neither text nor a raw key"},
		"odd UTF-16":      {utf16File(text, false)[:89], "odd number"},
		"zeros":           {make([]byte, KeySize), "all its bytes are equal"},
		"zeros in hex":    {bytes.Repeat([]byte("0"), 64), "all its bytes are equal"},
	} {
		got, err := ParseKey(tc.data)
		if err == nil || !strings.Contains(err.Error(), tc.want) || got != (Key{}) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
}

func TestKeysNeverPrint(t *testing.T) {
	k := testKey('A')
	ring := mustRing(t, 1, map[uint16]Key{1: k})
	scope := mustScope(t, ring, 1, "acme")
	scope.key = k
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("k", "key", k, "scope", scope)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("k", "key", k, "scope", scope)
	j, err := json.Marshal(map[string]any{"k": k, "p": &k, "s": scope})
	if err != nil {
		t.Fatal(err)
	}
	log.Write(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&log, verb+" "+verb+" "+verb, k, &k, []Key{k})
		fmt.Fprintf(&log, verb, scope)
	}
	out := strings.ToLower(log.String())
	for _, secret := range []string{"abcdef", "414243", "65 66 67", "65,66", "0x41", base64.StdEncoding.EncodeToString(k.secret[:6])} {
		if strings.Contains(out, strings.ToLower(secret)) {
			t.Errorf("a key was printed: %s", log.String())
		}
	}
}

func FuzzParseKey(f *testing.F) {
	k := testKey(3)
	f.Add(k.secret[:])
	f.Add(k.file())
	f.Add(utf16File(string(k.file()), false))
	f.Add([]byte(hex.EncodeToString(k.secret[:])))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKey(data)
		if err != nil {
			if k != (Key{}) {
				t.Fatal("an error and a key")
			}
			if text := string(bytes.Trim(data, " \t\r\n")); len(text) >= 8 && strings.Contains(err.Error(), text) {
				t.Fatalf("the error quotes the file: %v", err)
			}
			return
		}
		again, err := ParseKey(k.file())
		if err != nil || again != k {
			t.Fatalf("the key does not survive its own file: %v", err)
		}
	})
}
