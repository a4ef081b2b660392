package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"github.com/sealmq/sealmq/mtls"
)

// parsed is what a file says.
type parsed struct {
	entries []Entry
	// problems name the lines that were ignored.
	problems []string
	// version is the highest number of an entry, 0 if they have none.
	version uint64
	// lists is the digest of the other lists that the last mark has, and listsVersion its
	// number.
	lists        string
	listsVersion uint64
	// crls are the numbers of the X.509 CRLs by issuer.
	crls map[string]*big.Int
	// unsigned says that a CRL was ignored because no accepted authority signed it.
	unsigned bool
	// unended says that the last line has no end, so that the rest of it may be missing.
	unended bool
}

const (
	maxLineBytes = 4096
	// maxProblems bounds what is reported of one file.
	maxProblems = 20
)

// parser reads a file of revocations. These forms may be mixed:
//
//	NAME                          every certificate of a name
//	certificate FINGERPRINT       one certificate, by its SHA-256
//	sha256:FINGERPRINT            the same: the identity of a certificate without a name
//	serial SERIAL issuer ISSUER   every certificate with this serial number below a root
//	Certificate: NAME             a block, of which only one of the first three lines is
//	Serial: HEX                   needed
//	sha256 Fingerprint=AA:BB:…
//	Reason: TEXT
//	Revoked: TIME
//	=====
//	{"version":1,…}               a record of a Ledger
//	-----BEGIN X509 CRL-----      a list that an accepted authority signed
//	# a comment, or an empty line
//
// A line that is none of these is ignored and named in problems. Where a part is missing or
// changed, so that it is unknown what was revoked, the whole file is refused.
type parser struct {
	parsed
	authorities Authorities
	lines       []string // with their ends
	at          int      // the number of the line that is read next
}

func newParser(text string, authorities Authorities) *parser {
	return &parser{
		parsed:      parsed{crls: make(map[string]*big.Int), unended: text != "" && !strings.HasSuffix(text, "\n")},
		authorities: authorities,
		lines:       slices.Collect(strings.Lines(text)),
	}
}

// parseList reads a file. The error says why it cannot be used.
func parseList(data []byte, authorities Authorities) (*parsed, error) {
	text, err := decodeText(data)
	if err != nil {
		return nil, err
	}
	p := newParser(text, authorities)
	for p.at < len(p.lines) {
		if err := p.line(); err != nil {
			return nil, err
		}
	}
	return &p.parsed, nil
}

// encodingOf finds out the encoding: UTF-16 by its mark, else UTF-8, else Windows-1252.
func encodingOf(data []byte) encoding.Encoding {
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case !utf8.Valid(data):
		return charmap.Windows1252
	case bytes.HasPrefix(data, []byte("\ufeff")):
		return unicode.UTF8BOM
	}
	return encoding.Nop
}

func decodeText(data []byte) (string, error) {
	data, err := encodingOf(data).NewDecoder().Bytes(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		return "", err
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return "", errors.New("it contains zero bytes; it may be damaged, or be in two encodings")
	}
	if bytes.ContainsRune(data, utf8.RuneError) {
		return "", errors.New("it contains characters that cannot be read")
	}
	return string(data), nil
}

// next returns the next line without white space around it.
func (p *parser) next() string {
	p.at++
	return strings.TrimSpace(strings.TrimPrefix(p.lines[p.at-1], "\ufeff"))
}

func (p *parser) ignore(format string, args ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, fmt.Sprintf("line %d is ignored: ", p.at)+fmt.Sprintf(format, args...))
	}
}

func (p *parser) add(e Entry) {
	if err := e.check(); err != nil {
		p.ignore("%v", err)
		return
	}
	p.entries = append(p.entries, e)
}

func (p *parser) line() error {
	line := p.next()
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "", line[0] == '#', isRule(line):
	case len(line) > maxLineBytes && line[0] != '{':
		p.ignore("it has more than %d bytes", maxLineBytes)
	case line[0] == '{':
		return p.record(line)
	case strings.HasPrefix(line, "-----BEGIN "):
		return p.block(line)
	case blockKey(line) != "":
		return p.certificate(line)
	case word == "certificate" && rest != "":
		p.add(Entry{Scope: ScopeCertificate, Fingerprint: strings.TrimSpace(rest)})
	case strings.HasPrefix(line, "certificate\t"), strings.HasPrefix(line, "serial\t"), word == "serial" && rest != "":
		p.words(strings.Fields(line))
	case strings.HasPrefix(line, "sha256:"):
		p.add(Entry{Scope: ScopeCertificate, Fingerprint: strings.TrimPrefix(line, "sha256:")})
	default:
		p.name(line)
	}
	return nil
}

// words reads the forms that consist of words.
func (p *parser) words(words []string) {
	switch {
	case words[0] == "certificate" && len(words) == 2:
		p.add(Entry{Scope: ScopeCertificate, Fingerprint: words[1]})
	case words[0] == "serial" && len(words) == 4 && words[2] == "issuer":
		e := Entry{Scope: ScopeCertificate, Serial: words[1], Issuer: words[3]}
		if e.Serial != "0" {
			e.Serial = strings.TrimLeft(e.Serial, "0")
		}
		p.add(e)
	default:
		p.ignore(`it is neither "certificate SHA256" nor "serial SERIAL issuer sha256:KEY"`)
	}
}

func (p *parser) name(line string) {
	if err := mtls.CheckCommonName(line); err != nil {
		p.ignore("%v", err)
		return
	}
	if strings.HasPrefix(line, "CN=") || strings.HasPrefix(line, "/CN=") {
		p.ignore("write the name without CN=")
		return
	}
	p.add(Entry{Scope: ScopeName, Name: line})
}

// isRule reports whether a line ends a block.
func isRule(line string) bool { return len(line) >= 3 && strings.Trim(line, "=") == "" }

// blockKey returns the key of a line of a block, or "".
func blockKey(line string) string {
	for _, key := range []string{"certificate:", "serial:", "reason:", "revoked:"} {
		if len(line) >= len(key) && strings.EqualFold(line[:len(key)], key) {
			return key
		}
	}
	if head, _, ok := strings.Cut(line, "="); ok && strings.HasSuffix(strings.ToLower(strings.TrimSpace(head)), "fingerprint") {
		return "fingerprint="
	}
	return ""
}

// certificate reads a block that begins with line.
func (p *parser) certificate(line string) error {
	first := p.at
	e := Entry{Scope: ScopeCertificate}
	for {
		switch key := blockKey(line); key {
		case "certificate:":
			e.Name = strings.TrimSpace(line[len(key):])
		case "serial:":
			e.Serial = SerialForm(line[len(key):])
		case "reason:":
			e.Reason = strings.TrimSpace(line[len(key):])
			e.Code = ParseReason(e.Reason)
		case "revoked:":
			e.RevokedAt = timeForm(strings.TrimSpace(line[len(key):]))
		case "fingerprint=":
			_, value, _ := strings.Cut(line, "=")
			// SHA-1 is of no use, and the serial number is beside it.
			if f := HexForm(value); len(f) == 64 {
				e.Fingerprint = f
			}
		default:
			if line != "" && line[0] != '#' {
				p.ignore("it is no part of a block")
			}
		}
		if p.at == len(p.lines) {
			return fmt.Errorf("the block in line %d has no end, a line of ===", first)
		}
		if line = p.next(); isRule(line) {
			break
		}
	}
	if e.Serial == "" && e.Fingerprint == "" {
		e.Scope = ScopeName
	}
	if e.Name != "" && mtls.CheckCommonName(e.Name) != nil {
		p.ignore("the name of the block is none")
		return nil
	}
	p.add(e)
	return nil
}

// timeForm reads the usual forms of a time; a time that cannot be read is zero.
func timeForm(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", time.ANSIC, time.UnixDate, "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// record reads a line of a Ledger. One that is cut off at the end of the file was never
// promised; a damaged one may have revoked anything.
func (p *parser) record(line string) error {
	var r record
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		if p.unended && p.at == len(p.lines) {
			p.ignore("it is cut off")
			return nil
		}
		return fmt.Errorf("line %d is damaged: %w", p.at, err)
	}
	if r.Version != 0 && r.Version <= p.version {
		return fmt.Errorf("line %d has number %d behind %d", p.at, r.Version, p.version)
	}
	p.version = max(p.version, r.Version)
	if r.Lists != "" {
		p.lists, p.listsVersion = r.Lists, r.Version
	}
	if !r.isRevocation() {
		return nil
	}
	if err := r.Entry.check(); err != nil {
		return fmt.Errorf("line %d: %w", p.at, err)
	}
	p.entries = append(p.entries, r.Entry)
	return nil
}
