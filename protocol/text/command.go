package text

import "bytes"

// Verb is a known command word, or Unknown.
type Verb uint8

// The verbs: the union of all CipherMQ generations, then what SealMQ adds.
const (
	Unknown Verb = iota
	DeclareQueue
	DeclareExchange
	Bind
	Publish
	PublishBatch
	Consume
	Fetch
	Ack
	Stats
	ResetStats
	RegisterKey
	GetKey
	RegisterPublicKey
	GetPublicKey
	Resend

	Unbind
	DeleteQueue
	DeleteExchange
	Purge
	Peek
	Move
	Nack
	Prefetch
	Meta
	Queues
	Queue
	Exchanges
	Connections
	CloseConnection
	Whoami
	Ping
	PutKey
	FindKey
	KeyLog
	KeyProof
	PutChain
	FindChain
	Release
	Extend
	ResetKey
	FindReset

	verbs // number of verbs
)

var verbNames = [verbs]string{
	DeclareQueue: "declare_queue", DeclareExchange: "declare_exchange", Bind: "bind",
	Publish: "publish", PublishBatch: "publish_batch", Consume: "consume", Fetch: "fetch",
	Ack: "ack", Stats: "stats", ResetStats: "reset_stats",
	RegisterKey: "register_key", GetKey: "get_key",
	RegisterPublicKey: "register_public_key", GetPublicKey: "get_public_key",
	Resend: "resend",
	Unbind: "unbind", DeleteQueue: "delete_queue", DeleteExchange: "delete_exchange",
	Purge: "purge", Peek: "peek", Move: "move", Nack: "nack", Prefetch: "prefetch",
	Meta: "meta", Queues: "queues", Queue: "queue", Exchanges: "exchanges",
	Connections: "connections", CloseConnection: "close_connection",
	Whoami: "whoami", Ping: "ping",
	PutKey: "put_key", FindKey: "find_key", KeyLog: "key_log", KeyProof: "key_proof",
	PutChain: "put_chain", FindChain: "find_chain",
	Release: "release", Extend: "extend",
	ResetKey: "reset_key", FindReset: "find_reset",
}

// String is the command word; it is "unknown" for Unknown, so that a client cannot
// choose the name of a metric.
func (v Verb) String() string {
	if v == Unknown || v >= verbs {
		return "unknown"
	}
	return verbNames[v]
}

// Verbs lists the known verbs.
func Verbs() []Verb {
	list := make([]Verb, 0, verbs-1)
	for v := Unknown + 1; v < verbs; v++ {
		list = append(list, v)
	}
	return list
}

// Command is one request line, taken apart. Args aliases the line.
type Command struct {
	Verb Verb
	// Args is everything after the command word without surrounding white space.
	Args []byte
}

// Parse takes a line without its line feed apart (specification R3 and R4): white
// space around it, a carriage return among it, is dropped, and the first space ends
// the command word. Words are case sensitive. Parse accepts any bytes and does not
// allocate.
func Parse(line []byte) Command {
	line = bytes.TrimSpace(line)
	word, args := cut(line)
	return Command{Verb: verbOf(word), Args: args}
}

// cut splits at the first space. Further spaces between the two parts are dropped.
func cut(b []byte) (first, rest []byte) {
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return b, nil
	}
	first, rest = b[:i], b[i+1:]
	for len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	return first, rest
}

// cut3 splits at the first two spaces; the third part keeps all later ones, because it
// may be JSON. ok is false if there are fewer than three parts.
func cut3(b []byte) (first, second, rest []byte, ok bool) {
	first, rest = cut(b)
	second, rest = cut(rest)
	return first, second, rest, len(rest) > 0
}

func verbOf(word []byte) Verb {
	switch string(word) {
	case "publish":
		return Publish
	case "ack":
		return Ack
	case "declare_queue":
		return DeclareQueue
	case "declare_exchange":
		return DeclareExchange
	case "bind":
		return Bind
	case "publish_batch":
		return PublishBatch
	case "consume":
		return Consume
	case "fetch":
		return Fetch
	case "stats":
		return Stats
	case "reset_stats":
		return ResetStats
	case "register_key":
		return RegisterKey
	case "get_key":
		return GetKey
	case "register_public_key":
		return RegisterPublicKey
	case "get_public_key":
		return GetPublicKey
	case "resend":
		return Resend
	case "nack":
		return Nack
	case "prefetch":
		return Prefetch
	case "meta":
		return Meta
	}
	return addedVerbOf(word)
}

func addedVerbOf(word []byte) Verb {
	switch string(word) {
	case "unbind":
		return Unbind
	case "delete_queue":
		return DeleteQueue
	case "delete_exchange":
		return DeleteExchange
	case "purge":
		return Purge
	case "peek":
		return Peek
	case "move":
		return Move
	case "queues":
		return Queues
	case "queue":
		return Queue
	case "exchanges":
		return Exchanges
	case "connections":
		return Connections
	case "close_connection":
		return CloseConnection
	case "whoami":
		return Whoami
	case "ping":
		return Ping
	case "put_key":
		return PutKey
	case "find_key":
		return FindKey
	case "key_log":
		return KeyLog
	case "key_proof":
		return KeyProof
	case "put_chain":
		return PutChain
	case "find_chain":
		return FindChain
	case "release":
		return Release
	case "extend":
		return Extend
	case "reset_key":
		return ResetKey
	case "find_reset":
		return FindReset
	}
	return Unknown
}
