package listener

import (
	"errors"
	"os"
	"time"

	"github.com/sealmq/sealmq/internal/connlimit"
)

// socket is the TCP connection. Its place is among those that are not identified.
type socket struct {
	connlimit.Stranger
	// timeout bounds each write once it is not zero. written is when the deadline was set
	// last; ending says that TLS has set one of its own. TLS makes one write at a time.
	timeout time.Duration
	written time.Time
	ending  bool
	// stalled is called, if it is not nil, when the peer has taken no bytes for too long. The
	// write then has lastWords more, because TLS cannot go on after a write that failed.
	stalled func()
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
