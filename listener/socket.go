package listener

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/sealmq/sealmq/internal/connlimit"
)

// socket is the TCP connection. It can wait for the first byte without consuming it.
type socket struct {
	net.Conn
	first  [1]byte
	peeked bool
	// timeout bounds each write once it is not zero. written is when the deadline was set
	// last; ending says that TLS has set one of its own. TLS makes one write at a time.
	timeout time.Duration
	written time.Time
	ending  bool
	// stalled is called, if it is not nil, when the peer has taken no bytes for too long. The
	// write then has lastWords more, because TLS cannot go on after a write that failed.
	stalled func()
	// slots are not empty while a handshake holds one of each. Reading returns them while it
	// waits, so that a peer that stalls in the middle of its handshake delays no other.
	slots []chan struct{}
	// place is the connection's place among those that are not identified.
	place *connlimit.Place
}

func (s *socket) waitForByte() error {
	_, err := io.ReadFull(s.Conn, s.first[:])
	s.peeked = err == nil
	return err
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if s.peeked && len(p) > 0 {
		s.peeked = false
		return copy(p, s.first[:]), nil
	}
	if len(s.slots) > 0 {
		s.giveSlots()
		s.place.Idle()
		defer func() {
			s.place.Busy()
			for _, slot := range s.slots {
				slot <- struct{}{}
			}
		}()
	}
	return s.Conn.Read(p)
}

func (s *socket) giveSlots() {
	for _, slot := range s.slots {
		<-slot
	}
}

// Write implements net.Conn. The deadline is that of one write, so that a slow peer that
// does take bytes is not closed. It is set rarely, because setting it costs as much as a
// small write.
func (s *socket) Write(p []byte) (int, error) {
	if s.timeout > 0 && !s.ending {
		now := time.Now()
		if slack := s.timeout / 8; s.written.IsZero() || now.Sub(s.written) > slack {
			s.written = now
			if err := s.Conn.SetWriteDeadline(now.Add(s.timeout + slack)); err != nil {
				return 0, err
			}
		}
	}
	n, err := s.Conn.Write(p)
	if s.stalled == nil || s.ending || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	s.stalled()
	s.stalled = nil
	if err := s.SetWriteDeadline(time.Now().Add(lastWords)); err != nil {
		return n, err
	}
	m, err := s.Conn.Write(p[n:])
	return n + m, err
}

// SetWriteDeadline implements net.Conn. TLS calls it for its close_notify.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.ending = true
	return s.Conn.SetWriteDeadline(t)
}
