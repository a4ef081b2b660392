package connlimit_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/internal/connlimit"
)

// pending is a handshake with a peer at an address. The test plays the peer.
type pending struct {
	peer net.Conn
	runs chan struct{} // has a value once it has its turn
	end  chan struct{} // ends it, unless it waits for its peer
	err  chan error
}

func handshake(table *connlimit.Table, turns connlimit.Handshakes, addr string, stop chan struct{}) *pending {
	ours, peer := net.Pipe()
	p := &pending{peer, make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)}
	at := &net.TCPAddr{IP: net.ParseIP(addr), Port: 1}
	s := &connlimit.Stranger{Conn: ours, Place: table.Add(at, func() {})}
	go func() {
		defer s.Place.Leave()
		p.err <- s.Handshake(turns, time.Now().Add(time.Minute), stop, func() error {
			p.runs <- struct{}{}
			<-p.end
			both := make([]byte, 2)
			if _, err := io.ReadFull(s, both); err != nil {
				return err
			}
			if string(both) != "12" {
				return errors.New("read " + string(both))
			}
			return nil
		})
	}()
	return p
}

// hello sends the first byte, after which the handshake wants its turn, and answer the second.
func (p *pending) hello()  { p.send("1") }
func (p *pending) answer() { p.send("2") }

func (p *pending) send(s string) {
	_, _ = io.WriteString(p.peer, s)
	synctest.Wait()
}

// TestHandshakesTakeTurns: of the two turns one address has one at most, and who waits for the
// peer has none.
func TestHandshakesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, turns := connlimit.New(10, time.Minute), connlimit.NewHandshakes(2)
		open := func(addr string) *pending {
			p := handshake(table, turns, addr, nil)
			t.Cleanup(func() { p.peer.Close() })
			return p
		}
		running := func(want bool, p *pending, what string) {
			t.Helper()
			if (len(p.runs) > 0) != want {
				t.Errorf("%s: it runs: %v, want %v", what, !want, want)
			}
		}
		silent, first, second, elsewhere, third := open("1.1.1.1"), open("1.1.1.1"), open("1.1.1.1"), open("2.2.2.2"), open("3.3.3.3")
		for _, p := range []*pending{first, second, elsewhere, third} {
			p.hello()
		}
		running(false, silent, "the one that has sent nothing")
		running(true, first, "the first of its address")
		running(false, second, "the second of its address")
		running(true, elsewhere, "the first of another address")
		running(false, third, "the first of a third address, when all turns are taken")
		close(first.end) // now it waits for its peer
		synctest.Wait()
		running(true, third, "the third address, when the first one waits for its peer")
		running(false, second, "the second, when all turns are taken")
		close(third.end)
		synctest.Wait()
		running(true, second, "the second, when two wait for their peers")
		close(second.end)
		close(elsewhere.end)
		for _, p := range []*pending{third, second, elsewhere, first} {
			p.answer()
		}
		for i, p := range []*pending{first, second, elsewhere, third} {
			if err := <-p.err; err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if err := <-silent.err; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the silent one: %v", err)
		}
	})
}

// TestTurnsThatNeverCome: who waits for a turn in vain is told why.
func TestTurnsThatNeverCome(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			table, turns, stop := connlimit.New(10, time.Minute), connlimit.NewHandshakes(1), make(chan struct{})
			holds, waits := handshake(table, turns, "1.1.1.1", stop), handshake(table, turns, "2.2.2.2", stop)
			holds.hello()
			waits.hello()
			want := connlimit.ErrNoTurn
			if stopped {
				want = connlimit.ErrStopping
				close(stop)
			}
			if err := <-waits.err; !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
			holds.peer.Close()
			close(holds.end)
			<-holds.err
			waits.peer.Close()
		})
	}
}
