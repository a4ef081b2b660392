package trust

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// ReplaceName takes a name out of a file in which it is revoked as a whole, and puts blocks
// for some of its certificates in its place, so that others of the name are good. It replaces
// the file in one step, in its encoding, and changes no other line. It does nothing if there
// is no such file or line. A record with a number is an error: a list that lacks it would be
// refused.
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
	changed, err := replaceName(text, name, blocks(certificates, end))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if changed == text {
		return nil
	}
	if strings.TrimSpace(changed) == "" { // an empty file would be taken for a damaged one
		changed = "# nothing is revoked here any more" + end
	}
	if data, err = encodingOf(data).NewEncoder().Bytes([]byte(changed)); err != nil {
		return err
	}
	return durable.WriteFile(fs, file, data, 0o600)
}

// replaceName puts blocks in the place of the first entry that revokes the whole name, and
// removes the others.
func replaceName(text, name, blocks string) (changed string, err error) {
	var out strings.Builder
	p := newParser(text, nil)
	for p.at < len(p.lines) {
		at, read := p.at, len(p.entries)
		if err := p.line(); err != nil {
			return "", err
		}
		i := slices.IndexFunc(p.entries[read:], func(e Entry) bool { return e.revokesName(name) })
		switch {
		case i < 0:
			out.WriteString(strings.Join(p.lines[at:p.at], ""))
		case p.entries[read+i].Version > 0:
			return "", fmt.Errorf("line %d has a number of another authority's ledger; issue the certificate there", p.at)
		default:
			out.WriteString(blocks)
			blocks = ""
		}
	}
	return out.String(), nil
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
func colons(fingerprint string) string {
	sum, _ := hex.DecodeString(fingerprint)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}
