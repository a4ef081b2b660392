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
	// looked at. The list is not nil.
	ConnectionsOf(match func(*sealmq.Identity) bool) []sealmq.ConnectionInfo
	// CloseConnection closes one, and says whose it was. Code BadArgument if there is none with
	// this id.
	CloseConnection(id uint64) (client string, err error)
	// Ban closes all connections of the identity that has this one, and lets it in again only
	// after a while or a restart. It says whose the connection is, also if its client cannot be
	// banned. Code LimitReached if too many are banned.
	Ban(id uint64, while time.Duration) (client string, err error)
}
