package connlimit

import (
	"errors"
	"io"
	"net"
	"time"
)

// Handshakes lets the handshakes of a listener take turns. One address gets half of the turns, so
// that a flood of handshakes from it does not hold up those of others.
type Handshakes struct{ slots chan struct{} }

// NewHandshakes has n handshakes run at once.
func NewHandshakes(n int) Handshakes { return Handshakes{make(chan struct{}, n)} }

// Errors of a handshake whose turn did not come.
var (
	ErrNoTurn   = errors.New("no handshake slot became free")
	ErrStopping = errors.New("the server is stopping")
)

// Stranger is a connection whose peer is not known before its handshake has run. It does not wait
// for its peer while it has its turn: it gives the turn back for that time, so that a peer that
// stalls in the middle of its handshake delays no other.
type Stranger struct {
	net.Conn
	Place *Place

	first  [1]byte
	peeked bool
	slots  []chan struct{} // while the handshake runs, it has a place in each
}

// Handshake waits for the peer's first byte, because a peer that sends nothing must not take a
// turn, and for the turn, and calls handshake. The deadline is that of the connection, too.
func (s *Stranger) Handshake(turns Handshakes, deadline time.Time, stop <-chan struct{}, handshake func() error) error {
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.Conn, s.first[:]); err != nil {
		return err
	}
	s.peeked = true
	s.Place.Busy()
	defer func() {
		s.giveSlots()
		s.slots = nil
	}()
	if err := s.takeSlots(turns, deadline, stop); err != nil {
		return err
	}
	return handshake()
}

// takeSlots waits first for the turn among those of its address, so that those of others need not
// wait behind them.
func (s *Stranger) takeSlots(turns Handshakes, deadline time.Time, stop <-chan struct{}) error {
	late := time.After(time.Until(deadline))
	for _, slot := range []chan struct{}{s.Place.Turns(max(1, cap(turns.slots)/2)), turns.slots} {
		select {
		case slot <- struct{}{}:
			s.slots = append(s.slots, slot)
		case <-late:
			return ErrNoTurn
		case <-stop:
			return ErrStopping
		}
	}
	return nil
}

func (s *Stranger) giveSlots() {
	for _, slot := range s.slots {
		<-slot
	}
}

// Read implements net.Conn.
func (s *Stranger) Read(p []byte) (int, error) {
	if s.peeked && len(p) > 0 {
		s.peeked = false
		return copy(p, s.first[:]), nil
	}
	if len(s.slots) > 0 {
		s.giveSlots()
		s.Place.Idle()
		defer func() {
			s.Place.Busy()
			for _, slot := range s.slots {
				slot <- struct{}{}
			}
		}()
	}
	return s.Conn.Read(p)
}

// NetConn is the connection below.
func (s *Stranger) NetConn() net.Conn { return s.Conn }
