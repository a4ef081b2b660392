package listener

import (
	"log/slog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol/text"
)

// Session is one connection's conversation in some protocol. It does no input or
// output itself.
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
	// memory for about so many bytes of pushes, one at least unless it is 0.
	Output(dst []byte, pushes int) []byte
	// Drain stops what the peer did not ask for; Drained tells when everything that it
	// did ask for was handed out by Output.
	Drain()
	Drained() bool
	// Quiet gives back memory when nothing was received for a while.
	Quiet()
	// Commands and Unacked describe the session to operators.
	Commands() uint64
	Unacked() int
	// Close may be called from any goroutine and more than once.
	Close()
}

// Protocol is a way to speak on the port. Which one it is, is decided by the first byte
// that the peer sends over TLS. The line protocol is every byte's that no other has.
type Protocol struct {
	Name string
	// First is the byte that every conversation in this protocol begins with.
	First byte
	// Open begins a conversation.
	Open func(Peer) Session
}

// Peer is what a protocol is told about a connection.
type Peer struct {
	Identity sealmq.Identity
	// Wake says that Output may have something. It never blocks.
	Wake func()
	// Peers is the table of connections.
	Peers text.Peers
	// Memory is where the connection's part of the memory for all is kept.
	Memory text.Memory
	// Panicked is told of a panic on a goroutine that is not the connection's.
	Panicked func(v any, stack []byte)
	// Log has the connection's attributes.
	Log *slog.Logger
}

const textProtocol = "text"

// openSession chooses the protocol for a conversation that begins with first.
func (s *Server) openSession(first byte, p Peer) (Session, string) {
	for _, other := range s.cfg.Protocols {
		if other.First == first {
			return other.Open(p), other.Name
		}
	}
	return text.NewSession(text.Config{
		Broker:   s.cfg.Broker,
		Identity: p.Identity,
		Wake:     p.Wake,
		Peers:    p.Peers,
		Memory:   p.Memory,
		Panicked: p.Panicked,
		Log:      p.Log,
		Clock:    s.cfg.Clock,
		Metrics:  s.cfg.TextMetrics,
		Limits:   s.cfg.Session,
	}), textProtocol
}
