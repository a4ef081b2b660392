// Package transcript replays recorded conversations of the line protocol against a
// broker, for tests. The files are in the notation of the compatibility specification:
//
//	A+ CN [role]   connection A is opened by a client with that common name; - is one
//	               without; the role is admin or nothing
//	A> line        A sends a line
//	A>> bytes      A sends bytes, in which ⏎ is a line feed
//	A< line        the next line that A receives is this one
//	A<+ line       the same, and it comes in one piece with the line before
//	A<~ text       the next line starts with the text
//	A<j text JSON  the next line is the text, then JSON with at least these members
//	A=             A receives no further line
//	A.             A closes politely; A! drops the connection
//
// Text in parentheses after six or more spaces is a comment, and so is a line that starts
// with #. $name is replaced by a macro. A file is a text/template template, so that it can
// describe long conversations.
//
// The package does not know TLS: a Dialer opens the connections.
package transcript

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"
)

// Conn is a client's connection to the broker.
type Conn interface {
	// Write sends bytes as one piece.
	Write(p []byte) error
	// Read returns the next piece that is received. If there is none for d, the error is
	// ErrSilent.
	Read(d time.Duration) ([]byte, error)
	// Close ends the connection, politely or not, and returns when the broker has noticed.
	Close(politely bool) error
}

// Synchronous is a Conn whose Write returns only after the broker has read everything and
// sent all replies that it can. So no time is needed to check for silence.
type Synchronous interface {
	Conn
	Synchronous()
}

// ErrSilent says that nothing was received in time.
var ErrSilent = errors.New("nothing received")

// Dialer opens a connection. cn is "" for a client without a common name.
type Dialer func(cn string, admin bool) (Conn, error)

// Transcript is a conversation that was read from a file.
type Transcript struct {
	Name  string
	steps []step
}

type step struct {
	line int
	conn string
	verb string
	text string
}

// Load reads name.txt from a folder that also holds macros.txt.
func Load(tb testing.TB, dir, name string) *Transcript {
	tb.Helper()
	t, err := load(dir, name)
	if err != nil {
		tb.Fatalf("load transcript %s: %v", name, err)
	}
	return t
}

// Names lists the transcripts in a folder.
func Names(tb testing.TB, dir string) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "T*.txt"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no transcripts in %s (%v)", dir, err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
	return names
}

func load(dir, name string) (*Transcript, error) {
	macros, err := loadMacros(filepath.Join(dir, "macros.txt"))
	if err != nil {
		return nil, err
	}
	source, err := os.ReadFile(filepath.Join(dir, name+".txt"))
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New(name).Funcs(template.FuncMap{
		"seq":  seq,
		"uuid": func(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) },
		"pad":  strings.Repeat,
	}).Parse(string(source))
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	if err := tmpl.Execute(&text, nil); err != nil {
		return nil, err
	}
	t := &Transcript{Name: name}
	for i, line := range strings.Split(text.String(), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parse(line, macros)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		s.line = i + 1
		t.steps = append(t.steps, s)
	}
	return t, nil
}

func seq(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

var (
	comment = regexp.MustCompile(` {6,}\(.*\)$`)
	stepRE  = regexp.MustCompile(`^([A-Z][0-9]*)(\+|>>|>|<\+|<~|<j|<|=|\.|!)(?: (.*))?$`)
	macroRE = regexp.MustCompile(`\$[A-Za-z]+[0-9]*`)
)

func parse(line string, macros map[string]string) (step, error) {
	line = comment.ReplaceAllString(line, "")
	m := stepRE.FindStringSubmatch(line)
	if m == nil {
		return step{}, fmt.Errorf("%q is not in the notation", line)
	}
	var unknown error
	text := macroRE.ReplaceAllStringFunc(m[3], func(name string) string {
		value, ok := macros[name]
		if !ok {
			unknown = fmt.Errorf("unknown macro %s", name)
		}
		return value
	})
	return step{conn: m[1], verb: m[2], text: text}, unknown
}

// loadMacros reads lines "$name = text". Macros may use earlier ones; "$name = $other
// with old -> new" replaces a text in another one.
func loadMacros(file string) (map[string]string, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	macros := map[string]string{}
	for i, line := range strings.Split(string(source), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, text, ok := strings.Cut(line, " = ")
		if !ok {
			return nil, fmt.Errorf("macros: line %d has no value", i+1)
		}
		text, change, changed := strings.Cut(text, " with ")
		text = macroRE.ReplaceAllStringFunc(text, func(n string) string { return macros[n] })
		if changed {
			from, to, _ := strings.Cut(change, " -> ")
			text = strings.ReplaceAll(text, from, to)
		}
		macros[name] = text
	}
	return macros, nil
}

// Sent is the number of bytes that each connection sends, in the order of their names.
func (t *Transcript) Sent() []int {
	var order []string
	sent := map[string]int{}
	for _, s := range t.steps {
		switch s.verb {
		case "+":
			order = append(order, s.conn)
		case ">", ">>":
			sent[s.conn] += len(s.bytes())
		}
	}
	slices.Sort(order)
	counts := []int{}
	for _, c := range slices.Compact(order) {
		counts = append(counts, sent[c])
	}
	return counts
}

func (s *step) bytes() []byte {
	if s.verb == ">>" {
		return []byte(strings.ReplaceAll(s.text, "⏎", "\n"))
	}
	return []byte(strings.ReplaceAll(s.text, `\r`, "\r") + "\n")
}

// Cutter cuts the data of one connection into pieces. offset is the number of bytes that the
// connection has sent before. The pieces together must be data.
type Cutter func(offset int, data []byte) [][]byte

// Whole does not cut.
func Whole(_ int, data []byte) [][]byte { return [][]byte{data} }

// Bytewise sends each byte as one piece.
func Bytewise(_ int, data []byte) [][]byte {
	pieces := make([][]byte, len(data))
	for i := range data {
		pieces[i] = data[i : i+1]
	}
	return pieces
}

// CutAt cuts before the given offsets of each connection's stream.
func CutAt(points ...int) Cutter {
	slices.Sort(points)
	return func(offset int, data []byte) [][]byte {
		var pieces [][]byte
		from := 0
		for _, p := range points {
			if p := p - offset; p > from && p < len(data) {
				pieces = append(pieces, data[from:p])
				from = p
			}
		}
		return append(pieces, data[from:])
	}
}

// patience is how long an expected line may take. Only a failing test waits that long.
const patience = time.Minute

// silence is how long A= waits if nothing better is possible.
const silence = 300 * time.Millisecond

// Play replays the conversation and returns the first difference.
func (t *Transcript) Play(dial Dialer, cut Cutter) error {
	p := &player{dial: dial, cut: cut, conns: map[string]*side{}}
	defer p.close()
	for _, s := range t.steps {
		if err := p.step(&s); err != nil {
			return fmt.Errorf("%s: line %d: %s%s %.200s: %w", t.Name, s.line, s.conn, s.verb, s.text, err)
		}
	}
	return nil
}

type player struct {
	dial  Dialer
	cut   Cutter
	conns map[string]*side
}

// side is one connection with the data that it has received.
type side struct {
	conn   Conn
	sent   int
	within bool // the last byte sent was not a line feed
	buf    []byte
	fresh  bool // buf begins with a new piece
}

func (p *player) close() {
	for _, s := range p.conns {
		_ = s.conn.Close(false)
	}
}

func (p *player) step(s *step) error {
	if s.verb == "+" {
		cn, role, _ := strings.Cut(s.text, " ")
		c, err := p.dial(strings.TrimPrefix(cn, "-"), role == "admin")
		if err != nil {
			return err
		}
		p.conns[s.conn] = &side{conn: c}
		return nil
	}
	c := p.conns[s.conn]
	if c == nil {
		return errors.New("the connection is not open")
	}
	switch s.verb {
	case ">", ">>":
		return c.send(s.bytes(), p.cut)
	case "=":
		return c.silent()
	case ".", "!":
		delete(p.conns, s.conn)
		return c.conn.Close(s.verb == ".")
	}
	line, err := c.line(s.verb == "<+")
	if err != nil {
		return err
	}
	return s.compare(line)
}

func (c *side) send(data []byte, cut Cutter) error {
	for _, piece := range cut(c.sent, data) {
		if err := c.conn.Write(piece); err != nil {
			return err
		}
	}
	c.sent += len(data)
	c.within = len(data) > 0 && data[len(data)-1] != '\n'
	return nil
}

func (c *side) line(samePiece bool) (string, error) {
	if samePiece && c.fresh {
		return "", errors.New("the line before ended its piece")
	}
	for {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			line := string(c.buf[:i])
			c.buf = c.buf[i+1:]
			c.fresh = len(c.buf) == 0
			return line, nil
		}
		if samePiece {
			return "", errors.New("the line is cut by the end of a piece")
		}
		piece, err := c.conn.Read(patience)
		if err != nil {
			return "", err
		}
		c.buf = append(c.buf, piece...)
	}
}

// silent proves with a ping that no other line was coming. Within a line it cannot send a
// ping, so it has to wait.
func (c *side) silent() error {
	if c.within {
		if len(c.buf) > 0 {
			return fmt.Errorf("received %q", c.buf)
		}
		wait := silence
		if _, ok := c.conn.(Synchronous); ok {
			wait = 0
		}
		piece, err := c.conn.Read(wait)
		if errors.Is(err, ErrSilent) {
			return nil
		}
		return fmt.Errorf("received %q, error %v", piece, err)
	}
	if err := c.conn.Write([]byte("ping\n")); err != nil {
		return err
	}
	line, err := c.line(false)
	if err == nil && line != "Pong" {
		err = fmt.Errorf("received %q", line)
	}
	return err
}

func (s *step) compare(line string) error {
	switch s.verb {
	case "<~":
		if !strings.HasPrefix(line, s.text) {
			return fmt.Errorf("received %q", line)
		}
	case "<j":
		return compareJSON(s.text, line)
	default:
		if line != s.text {
			return fmt.Errorf("received %q", line)
		}
	}
	return nil
}

// compareJSON requires the text before the object to be equal, and the received object to
// have every member of the wanted one.
func compareJSON(want, got string) error {
	wantText, wantJSON, ok1 := cutObject(want)
	gotText, gotJSON, ok2 := cutObject(got)
	if !ok1 || !ok2 || wantText != gotText {
		return fmt.Errorf("received %q", got)
	}
	for name, value := range wantJSON {
		if !reflect.DeepEqual(gotJSON[name], value) {
			return fmt.Errorf("member %s is %v: received %q", name, gotJSON[name], got)
		}
	}
	return nil
}

func cutObject(line string) (text string, object map[string]any, ok bool) {
	i := strings.IndexByte(line, '{')
	if i < 0 {
		return line, nil, false
	}
	err := json.Unmarshal([]byte(line[i:]), &object)
	return line[:i], object, err == nil
}
