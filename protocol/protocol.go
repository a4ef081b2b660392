// Package protocol is what the protocols on the broker's port share: what a listener
// asks of one, what it tells one about a connection, the memory that all connections
// share, and what a peer may read of an error.
//
// A protocol takes bytes in and gives bytes out. It knows no sockets and no TLS: package
// listener has those. A listener knows no commands: it is given a list of protocols and
// chooses by the first bytes of a conversation.
package protocol

import (
	"log/slog"
	"time"

	"github.com/sealmq/sealmq"
)

// MaxPrefix is the longest Prefix of a Protocol.
const MaxPrefix = 8

// Protocol is a way to speak on the port.
type Protocol struct {
	// Name is what operators see.
	Name string
	// Prefix is how every conversation in this protocol begins, at most MaxPrefix bytes.
	// The longest one that matches decides. A protocol without a prefix takes every
	// conversation that begins in no other way.
	Prefix []byte
	// Open begins a conversation.
	Open func(Peer) Session
	// Refusal is what a peer reads that is turned away before it has spoken; nil says
	// nothing. Only the one of the protocol without a prefix is used.
	Refusal func(error) []byte
}

// Peer is what a protocol is told about a connection.
type Peer struct {
	Identity sealmq.Identity
	// Conn is the connection's id, the one of its sealmq.ConnectionInfo.
	Conn uint64
	// Wake says that Output may have something. It never blocks and may be called from any
	// goroutine, and more often than needed.
	Wake func()
	// Peers is the table of connections.
	Peers Peers
	// Memory is the connection's part of the memory for all; nil has no bound.
	Memory *Memory
	// Panicked is told of a panic on a goroutine that is not the connection's, and has the
	// connection end. It neither blocks nor calls the session or the broker.
	Panicked func(v any, stack []byte)
	// Log has the connection's attributes.
	Log *slog.Logger
}

// Session is one connection's conversation in some protocol. It does no input or output
// itself.
//
// Three parties use it. One goroutine reads: it calls Input, Ready, NoRoom and Quiet. One
// goroutine at a time writes: it calls Output and Tick. The rest may be called from any
// goroutine.
type Session interface {
	// Input takes what was received: what the last call left, then newer bytes. It
	// returns how many it is done with and keeps no reference. more says that it stopped
	// because Ready must be called first.
	Input(data []byte) (n int, more bool)
	// Ready blocks while no more may be read. It returns false once the session is closed.
	Ready() bool
	// NoRoom says that there is no memory for what Input left: it is answered with an
	// error, and the rest of it will be skipped.
	NoRoom()
	// Output appends what should be written next; nothing if there is nothing now. There is
	// memory for about that many bytes of pushes, one at least unless it is 0. end says that
	// the conversation is over: the connection is closed when out is written.
	Output(dst []byte, pushes int) (out []byte, end bool)
	// Tick is for heartbeats and time-outs. It is called before Output whenever there is
	// something to write, and again at the time that it returned; zero asks for no call.
	Tick(now time.Time) (next time.Time)
	// Drain stops what the peer did not ask for; Drained tells when everything that it
	// did ask for was handed out by Output.
	Drain()
	Drained() bool
	// Quiet gives back memory when nothing was received for a while.
	Quiet()
	// Describe describes the session to operators: it sets Commands, Unacked, Consumes and
	// Prefetch.
	Describe(*sealmq.ConnectionInfo)
	// Close may be called more than once.
	Close()
}
