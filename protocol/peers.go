package protocol

import (
	"time"

	"github.com/sealmq/sealmq"
)

// Peers is the table of connections, as far as sessions use it. Its methods are safe for
// concurrent use.
type Peers interface {
	// Count is the number of authenticated connections.
	Count() int
	// ConnectionsOf describes those whose identity matches, sorted by ID. Others are not
	// looked at.
	ConnectionsOf(match func(*sealmq.Identity) bool) []Connection
	// CloseConnection closes one. Code BadArgument if there is none with this id.
	CloseConnection(id uint64) error
}

// Connection describes an authenticated connection to operators.
type Connection struct {
	ID       uint64    `json:"id"`
	Client   string    `json:"client"`   // the identity
	Issuer   string    `json:"issuer"`   // of the identity
	Role     string    `json:"role"`     // of the identity
	Serial   string    `json:"serial"`   // of the certificate
	Address  string    `json:"address"`  // of the peer
	Protocol string    `json:"protocol"` // "" until it is known
	Since    time.Time `json:"since"`
	Commands uint64    `json:"commands"`
	Unacked  int       `json:"unacked"`
	BytesIn  uint64    `json:"bytes_in"`
	BytesOut uint64    `json:"bytes_out"`
}
