package crash

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// maxReply is longer than any line of the broker in a run.
const maxReply = 128 << 10

// session is a plain connection of the line protocol. Unlike with package client, its user
// decides about each line and each acknowledgement.
type session struct {
	c    *tls.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	stop func() bool
}

// connect opens a session with the running broker. It is closed when ctx ends.
func connect(ctx context.Context, h *Host) (*session, error) {
	raw, err := h.Dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	c := tls.Client(raw, h.tls)
	raw.SetDeadline(time.Now().Add(patience))
	if err := c.HandshakeContext(ctx); err != nil {
		stop()
		raw.Close()
		return nil, err
	}
	return &session{c: c, stop: stop, r: bufio.NewReaderSize(c, maxReply), w: bufio.NewWriterSize(c, 64<<10)}, nil
}

// close ends the session like a crash of the client, without TLS's closing alert.
func (s *session) close() {
	s.stop()
	s.c.NetConn().Close()
}

// read returns the next line. Before it waits, it flushes what was written.
func (s *session) read() (string, error) {
	if s.r.Buffered() == 0 {
		if err := s.w.Flush(); err != nil {
			return "", err
		}
		s.c.SetDeadline(time.Now().Add(patience))
	}
	line, err := s.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// expect sends lines and reads the reply of each.
func (s *session) expect(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(s.w, "%s\n", pairs[i])
	}
	for i := 0; i < len(pairs); i += 2 {
		reply, err := s.read()
		if err != nil {
			return err
		}
		if reply != pairs[i+1] {
			return fmt.Errorf("%q was answered with %q", pairs[i], reply)
		}
	}
	return nil
}

// subscribe makes the session a consumer that gets the number of each attempt.
func (s *session) subscribe(queue string, prefetch int) error {
	set := fmt.Sprint("refetch ", prefetch)
	return s.expect("meta on", "Meta on", "p"+set, "P"+set, "consume "+queue, "Subscribed to queue")
}

// event is a line to a consumer.
type event struct {
	id      string
	body    []byte // of a delivery
	attempt int
	reply   string // the word before the id: ACK_CONFIRMED or NACK_CONFIRMED
	queue   string // the JSON after "Queue: "
}

// next is the next delivery or reply of a consumer.
func (s *session) next() (e event, err error) {
	line, err := s.read()
	if err != nil {
		return e, err
	}
	if meta, ok := strings.CutPrefix(line, "Meta: "); ok {
		var m struct{ Attempt int }
		if err := json.Unmarshal([]byte(meta), &m); err != nil {
			return e, fmt.Errorf("%q: %w", line, err)
		}
		e.attempt = m.Attempt
		if line, err = s.read(); err != nil {
			return e, err
		}
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "Message:":
		id, body, _ := strings.Cut(rest, " ")
		e.id, e.body = id, []byte(body)
		return e, nil
	case "ACK_CONFIRMED", "NACK_CONFIRMED":
		e.reply, e.id = word, rest
		return e, nil
	case "Queue:":
		e.queue = rest
		return e, nil
	}
	return e, unexpected(line)
}

// unexpected is a line that the broker should not have sent.
type unexpected string

func (u unexpected) Error() string { return fmt.Sprintf("unexpected line %q", string(u)) }
