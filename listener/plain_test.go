package listener_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
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

// A client that forgot TLS or its certificate finds out why nothing works; a scanner does not
// fill the log.
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
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := n.ca.ClientTLS("a")
		cfg.Certificates, cfg.MaxVersion = nil, version
		if c, err := tls.Dial("tcp", n.addr, cfg); err == nil {
			_, _ = io.ReadAll(c)
			c.Close()
		}
	}
	n.wantRefused("no_certificate", 2)
	for _, reason := range []string{"plain", "no_certificate"} {
		if got := strings.Count(log.String(), "reason="+reason); got != 1 {
			t.Errorf("%d lines for %s:\n%s", got, reason, log)
		}
	}
}
