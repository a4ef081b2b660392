package sender

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// MaxTextBytes is the maximum length of a text. Sealed, it is about a third longer, which
// just fits in a request line. Most queues deliver much shorter lines.
const MaxTextBytes = 3 << 20

// Source reads one text after the other.
type Source struct {
	name  string
	lines bool
	in    *bufio.Reader
	read  int64 // bytes
	line  int
	given bool
}

// Lines returns each line of r as a text, without its line feed and a carriage return before
// it. Empty lines are skipped. name is for errors.
func Lines(name string, r io.Reader) *Source {
	return &Source{name: name, lines: true, in: bufio.NewReaderSize(r, 64<<10)}
}

// Whole returns all of r as one text.
func Whole(name string, r io.Reader) *Source { return &Source{name: name, in: bufio.NewReader(r)} }

// From says how many lines and bytes were read before, so that the counts continue.
func (s *Source) From(line int, offset int64) *Source {
	s.line, s.read = line, offset
	return s
}

// Offset is the offset of the end of the last text.
func (s *Source) Offset() int64 { return s.read }

// Next returns a text, or io.EOF after the last one. A text of Whole has no line number.
func (s *Source) Next() (Text, error) {
	read := s.whole
	if s.lines {
		read = s.nextLine
	}
	body, err := read()
	return Text{Body: body, Source: s.name, Line: s.line}, err
}

func (s *Source) nextLine() ([]byte, error) {
	for {
		text, err := readLine(s.in)
		if err == io.EOF && len(text) == 0 {
			return nil, io.EOF
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read %s: %w", s.name, err)
		}
		s.read += int64(len(text))
		s.line++
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		if len(text) > MaxTextBytes {
			return nil, fmt.Errorf("line %d of %s is longer than %d bytes", s.line, s.name, MaxTextBytes)
		}
		if len(text) > 0 {
			return text, nil
		}
	}
}

// readLine returns a new slice with a line and its end. It stops reading a line that is too
// long.
func readLine(br *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := br.ReadSlice('\n')
		text = append(text, part...)
		if err != bufio.ErrBufferFull || len(text) > MaxTextBytes+len("\r\n") {
			if err == bufio.ErrBufferFull {
				err = nil
			}
			return text, err
		}
	}
}

func (s *Source) whole() ([]byte, error) {
	if s.given {
		return nil, io.EOF
	}
	s.given = true
	text, err := io.ReadAll(io.LimitReader(s.in, MaxTextBytes+1))
	s.read += int64(len(text))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", s.name, err)
	case len(text) > MaxTextBytes:
		return nil, fmt.Errorf("%s is longer than %d bytes; with --lines each line is a message", s.name, MaxTextBytes)
	case len(text) == 0:
		return nil, fmt.Errorf("%s is empty", s.name)
	}
	return text, nil
}

// Trial returns a source of count trial messages.
func Trial(count int) func() (Text, error) {
	i := 0
	return func() (Text, error) {
		if i == count {
			return Text{}, io.EOF
		}
		i++
		return Text{Body: fmt.Appendf(nil, "trial message %d of %d", i, count)}, nil
	}
}

// Paced limits next to rate texts a second; 0 is no limit.
func Paced(ctx context.Context, c clock.Clock, rate float64, next func() (Text, error)) func() (Text, error) {
	if rate <= 0 {
		return next
	}
	began, i := c.Now(), 0
	return func() (Text, error) {
		text, err := next()
		if err != nil {
			return text, err
		}
		due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		i++
		if wait := due.Sub(c.Now()); wait > 0 {
			if err := clock.Sleep(ctx, c, wait); err != nil {
				return Text{}, err
			}
		}
		return text, nil
	}
}
