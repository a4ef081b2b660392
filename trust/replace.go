package trust

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"github.com/sealmq/sealmq/internal/durable"
)

// ReplaceName takes a name out of a file in which it is revoked as a whole, and puts blocks
// for some of its certificates in its place, so that others of the name are good. It replaces
// the file in one step, in its encoding, and changes no other line. It does nothing if there
// is no such file or line.
func ReplaceName(fs durable.FS, file, name string, certificates []Entry) error {
	data, err := durable.ReadFile(fs, file, MaxListBytes)
	if durable.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := decodeText(data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	end := "\n"
	if strings.Contains(text, "\r\n") {
		end = "\r\n"
	}
	changed, ok := replaceName(text, name, blocks(certificates, end))
	if !ok {
		return nil
	}
	if data, err = encodeText(changed, data); err != nil {
		return err
	}
	return durable.WriteFile(fs, file, data, 0o600)
}

// replaceName works on a text that may have no end of its last line.
func replaceName(text, name, blocks string) (changed string, ok bool) {
	var out, block strings.Builder
	replace := func() {
		if !ok {
			out.WriteString(blocks)
		}
		ok = true
	}
	var inPEM bool
	var e Entry // of the block that is being read
	for line := range strings.Lines(text) {
		plain := strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		inPEM = inPEM && !strings.HasPrefix(plain, "-----END ") || strings.HasPrefix(plain, "-----BEGIN ")
		key := blockKey(plain)
		switch {
		case inPEM:
			out.WriteString(line)
		case block.Len() > 0 && isRule(plain):
			block.WriteString(line)
			if e.Name == name && e.Serial == "" && e.Fingerprint == "" {
				replace()
			} else {
				out.WriteString(block.String())
			}
			block.Reset()
			e = Entry{}
		case block.Len() > 0 || key != "":
			block.WriteString(line)
			_, value, _ := strings.Cut(plain, strings.TrimSpace(key[max(0, len(key)-1):]))
			switch key {
			case "certificate:":
				e.Name = strings.TrimSpace(value)
			case "serial:":
				e.Serial = SerialForm(value)
			case "fingerprint=":
				e.Fingerprint = HexForm(value)
			}
		case plain == name:
			replace()
		default:
			out.WriteString(line)
		}
	}
	out.WriteString(block.String())
	return out.String(), ok
}

// blocks are entries in the form of the file.
func blocks(certificates []Entry, end string) string {
	var b strings.Builder
	for _, e := range certificates {
		for _, line := range []string{
			"Certificate: " + e.Name,
			"Serial: " + strings.ToUpper(e.Serial),
			"sha256 Fingerprint=" + colons(e.Fingerprint),
			"Reason: " + e.Reason,
			"Revoked: " + e.RevokedAt.UTC().Format(time.RFC3339),
			strings.Repeat("=", 40),
		} {
			b.WriteString(line + end)
		}
	}
	return b.String()
}

// colons writes a fingerprint as openssl does.
func colons(hex string) string {
	var b strings.Builder
	for i := 0; i+2 <= len(hex); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strings.ToUpper(hex[i : i+2]))
	}
	return b.String()
}

// encodeText writes a text in the encoding of like.
func encodeText(text string, like []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(like, []byte{0xff, 0xfe}), bytes.HasPrefix(like, []byte{0xfe, 0xff}):
		out := like[:2:2]
		for _, u := range utf16.Encode([]rune(text)) {
			if like[0] == 0xff {
				out = append(out, byte(u), byte(u>>8))
			} else {
				out = append(out, byte(u>>8), byte(u))
			}
		}
		return out, nil
	case bytes.HasPrefix(like, []byte("\ufeff")):
		return append([]byte("\ufeff"), text...), nil
	case utf8.Valid(like):
		return []byte(text), nil
	}
	return charmap.Windows1252.NewEncoder().Bytes([]byte(text))
}
