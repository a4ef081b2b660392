package listener_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/listener"
)

// lockedBuffer is a log that connections write to at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A client that forgot TLS finds out why nothing works; a scanner does not fill the log.
func TestPlainPeersAreLoggedSparingly(t *testing.T) {
	log := &lockedBuffer{}
	n := start(t, nil, func(cfg *listener.Config) {
		cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	})
	for range 5 {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n")
		untilEnd(t, c) // the line is written before the connection is closed
		c.Close()
	}
	n.wantRefused("plain", 5)
	if got := strings.Count(log.String(), "reason=plain"); got != 1 {
		t.Errorf("%d lines:\n%s", got, log)
	}
}
