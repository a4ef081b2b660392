package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// messageID is a UUID.
type messageID [16]byte

// accepted is a message that the proxy says is queued.
type accepted struct {
	id   messageID
	sent time.Time
}

// submitter is one connection that submits. It writes its requests and looks through the
// answers by itself, because it shares the machine with what it measures.
type submitter struct {
	run    *pipelineRun
	conn   *tls.Conn
	reader *bufio.Reader
	head   []byte // of each request, up to the content's length
	number uint32 // makes the phone numbers differ
	text   []byte

	body, request, answer []byte // used again and again

	accepted []accepted
	refused  int         // messages that were not answered as queued
	unknown  []messageID // of these, those whose answer has an id
	failed   int         // of these, those of requests that failed as a whole
	latency  *latency
}

// requestTimeout is how long one request may take.
const requestTimeout = time.Minute

func dialSubmitter(ctx context.Context, r *pipelineRun, i int) (*submitter, error) {
	d := tls.Dialer{Config: r.TLS, NetDialer: &net.Dialer{Timeout: requestTimeout}}
	conn, err := d.DialContext(ctx, "tcp", r.Addr)
	if err != nil {
		return nil, err
	}
	path := "/submit"
	if r.Batch > 1 {
		path = "/submit/batch"
	}
	const firstNumbers = 1_000_000 // of each connection
	return &submitter{run: r, conn: conn.(*tls.Conn), reader: bufio.NewReaderSize(conn, 64<<10), number: uint32(i) * firstNumbers,
		head: fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: ", path, r.Addr),
		text: pattern(r.Size + headBytes), latency: newLatency()}, nil
}

// submit submits until the time is over or the connection fails.
func (s *submitter) submit(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.conn.NetConn().Close() })
	defer stop()
	for {
		due, ok := s.due(ctx)
		if !ok {
			return nil
		}
		if err := s.one(due); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
	}
}

// due is when the next request begins. With a rate it is when it should have been sent, so
// that a proxy that is slow for a moment is seen in all requests that it held up.
func (s *submitter) due(ctx context.Context) (time.Time, bool) {
	r := s.run
	if r.Rate == 0 {
		now := time.Now()
		return now, now.Before(r.stop) && ctx.Err() == nil
	}
	n := r.next.Add(1) - 1
	at := r.epoch.Add(time.Duration(n * int64(r.Batch) * int64(time.Second) / int64(r.Rate)))
	if !at.Before(r.stop) {
		return at, false
	}
	wait := time.Until(at)
	return at, wait <= 0 || clock.Sleep(ctx, clock.System, wait) == nil
}

// one submits one request.
func (s *submitter) one(began time.Time) error {
	s.body = s.body[:0]
	if s.run.Batch == 1 {
		s.body = s.appendMessage(s.body)
	} else {
		s.body = append(s.body, `{"messages":[`...)
		for i := range s.run.Batch {
			if i > 0 {
				s.body = append(s.body, ',')
			}
			s.body = s.appendMessage(s.body)
		}
		s.body = append(s.body, "]}"...)
	}
	s.request = strconv.AppendInt(append(s.request[:0], s.head...), int64(len(s.body)), 10)
	s.request = append(append(s.request, "\r\n\r\n"...), s.body...)
	if err := s.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	if _, err := s.conn.Write(s.request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(s.reader, nil)
	if err != nil {
		return err
	}
	answer := bytes.NewBuffer(s.answer[:0])
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		return err
	}
	s.answer = answer.Bytes()
	s.latency.record(int64(time.Since(began)))
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK {
		s.refused += s.run.Batch
		s.failed += s.run.Batch
		if resp.Close {
			return fmt.Errorf("the proxy answered %s: %s", resp.Status, s.answer)
		}
		return nil
	}
	return s.take(began)
}

// appendMessage is a message with a number of its own.
func (s *submitter) appendMessage(b []byte) []byte {
	s.number++
	b = append(b, `{"sender_number":"+4915`...)
	b = strconv.AppendUint(b, 1_000_000_000+uint64(s.number), 10)
	b = append(b, `","message_body":"`...)
	b = append(b, s.text...)
	return append(b, `"}`...)
}

// errAnswer says that an answer does not say what became of the messages.
var errAnswer = errors.New("the answer does not have an id for each message that was queued")

// take notes the ids in an answer. Behind each is the status of its message.
func (s *submitter) take(sent time.Time) error {
	queued := 0
	for rest := s.answer; ; {
		_, after, found := bytes.Cut(rest, []byte(`"message_id":"`))
		if !found {
			break
		}
		id, ok := parseMessageID(after)
		_, status, found := bytes.Cut(after, []byte(`"status":"`))
		if !ok || !found {
			return errAnswer
		}
		if bytes.HasPrefix(status, []byte(`queued"`)) {
			s.accepted = append(s.accepted, accepted{id, sent})
			queued++
		} else {
			s.unknown = append(s.unknown, id)
		}
		rest = status
	}
	if got := bytes.Count(s.answer, []byte(`"status":"queued"`)); got != queued || queued > s.run.Batch {
		return errAnswer
	}
	s.refused += s.run.Batch - queued
	return nil
}

// parseMessageID reads the UUID with which b begins.
func parseMessageID(b []byte) (id messageID, ok bool) {
	const length = 36
	if len(b) < length {
		return id, false
	}
	digits := make([]byte, 0, length)
	for i, c := range b[:length] {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue // hyphens
		}
		digits = append(digits, c)
	}
	n, err := hex.Decode(id[:], digits)
	return id, err == nil && n == len(id)
}
