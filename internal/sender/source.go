package sender

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// MaxTextBytes bounds one text. Sealed, it is about a third longer, which a broker's
// request line just takes; what a queue delivers is mostly much less.
const MaxTextBytes = 3 << 20

// Lines returns a source that gives each line of r, without its line feed and a carriage
// return before it. Empty lines are skipped. The errors name what is read.
func Lines(name string, r io.Reader) func() ([]byte, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	number := 0
	return func() ([]byte, error) {
		for {
			text, err := readLine(br)
			if err == io.EOF && len(text) == 0 {
				return nil, io.EOF
			}
			if err != nil && err != io.EOF {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			number++
			text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
			if len(text) > MaxTextBytes {
				return nil, fmt.Errorf("line %d of %s is longer than %d bytes", number, name, MaxTextBytes)
			}
			if len(text) > 0 {
				return text, nil
			}
		}
	}
}

// readLine returns a line with its end, in memory of its own. It stops reading a line
// that is too long.
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

// Whole returns a source that gives all of r as one text.
func Whole(name string, r io.Reader) func() ([]byte, error) {
	given := false
	return func() ([]byte, error) {
		if given {
			return nil, io.EOF
		}
		given = true
		text, err := io.ReadAll(io.LimitReader(r, MaxTextBytes+1))
		switch {
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", name, err)
		case len(text) > MaxTextBytes:
			return nil, fmt.Errorf("%s is longer than %d bytes; with --lines each line is a message of its own", name, MaxTextBytes)
		case len(text) == 0:
			return nil, fmt.Errorf("%s is empty", name)
		}
		return text, nil
	}
}
