// Package vanished finds out that the peer of a connection has gone without a word: its host, or
// the network on the way to it.
package vanished

import (
	"net"
	"time"
)

// After has the system end a connection whose peer has acknowledged nothing for a time, whether
// something was sent to it or not. Other connections than those of TCP stay as they are.
func After(c net.Conn, d time.Duration) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	const probes = 4
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d / 2, Interval: d / 2 / probes, Count: probes})
	setUserTimeout(tcp, d)
}
