package httpkit

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/connlimit"
)

// tlsListener hands out connections whose handshakes have run, each in its turn: net/http would
// run all of them at once.
type tlsListener struct {
	*connlimit.Listener
	conf    *tls.Config
	turns   connlimit.Handshakes
	timeout time.Duration

	begin   sync.Once
	ready   chan net.Conn
	failed  chan error
	stopped context.Context
	stop    func()
	running sync.WaitGroup
}

func listenTLS(l *connlimit.Listener, conf *tls.Config, limits Limits) *tlsListener {
	t := &tlsListener{Listener: l, conf: conf, turns: connlimit.NewHandshakes(limits.Handshakes), timeout: limits.HeaderTimeout,
		ready: make(chan net.Conn), failed: make(chan error)}
	t.stopped, t.stop = context.WithCancel(context.Background())
	return t
}

// Accept implements net.Listener.
func (l *tlsListener) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.running.Go(l.accept) })
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.stopped.Done():
		return nil, net.ErrClosed
	}
}

// accept starts handshakes. After an error it goes on once Accept is called again.
func (l *tlsListener) accept() {
	for l.stopped.Err() == nil {
		raw, err := l.Listener.Accept()
		if err == nil {
			l.running.Go(func() { l.handshake(connlimit.Of(raw)) })
			continue
		}
		select {
		case l.failed <- err:
		case <-l.stopped.Done():
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// handshake runs a handshake. The server learns of its error when it asks for it again, and
// answers peers that do not speak TLS.
func (l *tlsListener) handshake(raw *connlimit.Conn) {
	release := context.AfterFunc(l.stopped, func() { raw.Close() })
	s := &connlimit.Stranger{Conn: raw, Place: raw.Place}
	conn := tls.Server(s, l.conf)
	ran := false
	err := s.Handshake(l.turns, time.Now().Add(l.timeout), l.stopped.Done(), func() error {
		ran = true
		return conn.Handshake()
	})
	raw.Idle()
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if !release() || err != nil && !ran {
		raw.Close()
		return
	}
	select {
	case l.ready <- conn:
	case <-l.stopped.Done():
		raw.Close()
	}
}

// Close implements net.Listener. It ends the handshakes that run.
func (l *tlsListener) Close() error {
	err := l.Listener.Close()
	l.stop()
	l.running.Wait()
	return err
}
