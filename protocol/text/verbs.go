package text

import "bytes"

// Verb is a known command word, or Unknown.
type Verb uint8

// The verbs that the program names: all of the CipherMQ generations, in the order in which
// stats shows them, and some of what SealMQ adds. A verb is a place in the table.
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
	Purge
	PauseQueue
	Release
	Extend
	PublishDigest
)

// row is one verb.
type row struct {
	word string
	// args is the grammar of the arguments, as docs/protocol.md has it.
	args  string
	flags flags
	// least is how many arguments there must be, and missing the reply if there are fewer.
	// publish and ack check that themselves.
	least   int
	missing string
	// reply is the line of success, or its beginning. CipherMQ's must not change: clients
	// compare whole lines (specification R5).
	reply string
	run   func(s *Session, v Verb, args []byte)
}

type flags uint8

const (
	// adminOnly: only an administrator may use it. It describes what package broker checks.
	adminOnly flags = 1 << iota
	// ownerOnly: only the owner of its queues or exchange and administrators may use it.
	ownerOnly
	// inOrder: the command must see what earlier ones did, so it waits for their answers.
	inOrder
)

// What a command with too few arguments is answered.
const (
	missingQueue       = "Missing queue name"
	missingExchange    = "Missing exchange name"
	missingParameters  = "Missing parameters"
	missingMessageID   = "Missing message ID"
	missingClient      = "Missing client ID"
	missingClientOrKey = "Missing client ID or public key"
	missingKey         = "Missing public key"
)

// table is the table of verbs. Handlers reach it through their session, because what
// initialises a variable must not refer to it.
var table = []row{
	Unknown: {word: "unknown"},

	DeclareQueue:      {"declare_queue", "<queue> [options]", 0, 1, missingQueue, "Queue declared", (*Session).declareQueue},
	DeclareExchange:   {"declare_exchange", "<exchange> [kind]", 0, 1, missingExchange, "Exchange declared", (*Session).declareExchange},
	Bind:              {"bind", "<queue> <exchange> <key>", 0, 3, missingParameters, "Queue bound", (*Session).bind},
	Publish:           {"publish", "<exchange> <key> <message>", 0, 3, missingParameters, prefixAck, (*Session).publish},
	PublishBatch:      {"publish_batch", "<exchange> <key> [<message>, …]", 0, 3, missingParameters, prefixAck, (*Session).publishBatch},
	Consume:           {"consume", "<queue>", 0, 1, missingQueue, "Subscribed to queue", (*Session).consume},
	Fetch:             {"fetch", "<queue>", inOrder, 1, missingQueue, prefixMessage, (*Session).fetch},
	Ack:               {"ack", "<id>", 0, 1, missingMessageID, "ACK_CONFIRMED ", (*Session).ack},
	Stats:             {"stats", "", inOrder, 0, "", "Stats: ", (*Session).stats},
	ResetStats:        {"reset_stats", "", adminOnly, 0, "", "Stats reset", (*Session).resetStats},
	RegisterKey:       {"register_key", "<client> <base64>", 0, 2, missingClientOrKey, "Public key registered", (*Session).registerKey},
	GetKey:            {"get_key", "<client>", inOrder, 1, missingClient, "Public key: ", (*Session).getKey},
	RegisterPublicKey: {"register_public_key", "<base64>", 0, 1, missingKey, "Public key registered", (*Session).registerPublicKey},
	GetPublicKey:      {"get_public_key", "<client>", inOrder, 1, missingClient, "Public key: ", (*Session).getKey},
	Resend:            {"resend", "<id>", inOrder, 1, missingMessageID, "Resend requested", (*Session).resend},

	Unbind:        {"unbind", "<queue> <exchange> <key>", 0, 3, missingParameters, "Queue unbound", (*Session).bind},
	Purge:         {"purge", "<queue>", ownerOnly | inOrder, 1, missingQueue, "Queue purged ", (*Session).removeMessages},
	PauseQueue:    {"pause_queue", "<queue>", ownerOnly | inOrder, 1, missingQueue, "Queue paused", (*Session).pauseQueue},
	Release:       {"release", "<id> [delay <duration>]", 0, 1, missingMessageID, "RELEASE_CONFIRMED ", (*Session).nack},
	Extend:        {"extend", "<id>", 0, 1, missingMessageID, "EXTEND_CONFIRMED ", (*Session).extend},
	PublishDigest: {"publish_digest", "<exchange> <key> <hex> <message>", 0, 4, missingParameters, prefixAck, (*Session).publishDigest},

	{"change_queue", "<queue> <options>", ownerOnly | inOrder, 2, missingParameters, "Queue changed", (*Session).changeQueue},
	{"resume_queue", "<queue>", ownerOnly | inOrder, 1, missingQueue, "Queue resumed", (*Session).pauseQueue},
	{"delete_queue", "<queue>", ownerOnly | inOrder, 1, missingQueue, "Queue deleted ", (*Session).removeMessages},
	{"delete_exchange", "<exchange>", ownerOnly, 1, missingExchange, "Exchange deleted", (*Session).deleteExchange},
	{"peek", "<queue> [<n> [<from> [<offset>]]]", ownerOnly | inOrder, 1, missingQueue, "Messages: ", (*Session).peek},
	{"move", "<from> <to> [n]", ownerOnly | inOrder, 2, missingParameters, "Moved ", (*Session).move},
	{"copy", "<from> <to> [<n> [<seq>]]", ownerOnly | inOrder, 2, missingParameters, "Copied ", (*Session).copy},
	{"nack", "<id> [delay <duration> | dead [<reason>]]", 0, 1, missingMessageID, "NACK_CONFIRMED ", (*Session).nack},
	{"prefetch", "<n>", 0, 1, missingParameters, "Prefetch ", (*Session).setPrefetch},
	{"meta", "<on | ends | off>", 0, 1, missingParameters, "Meta ", (*Session).setMeta},
	{"codes", "<on | off>", 0, 1, missingParameters, "Codes ", (*Session).setCodes},
	{"queues", "", inOrder, 0, "", "Queues: ", (*Session).queues},
	{"queue", "<queue>", inOrder, 1, missingQueue, "Queue: ", (*Session).queue},
	{"exchanges", "", 0, 0, "", "Exchanges: ", (*Session).exchanges},
	{"connections", "", 0, 0, "", "Connections: ", (*Session).connections},
	{"close_connection", "<id> [ban <duration>]", adminOnly, 1, missingParameters, "Connection closed", (*Session).closeConnection},
	{"whoami", "", 0, 0, "", "Whoami: ", (*Session).whoami},
	{"ping", "", 0, 0, "", "Pong", (*Session).ping},
	{"put_key", "<suite> <base64>", 0, 2, missingParameters, "Key stored ", (*Session).putKeyEntry},
	{"find_key", "<client> [suite]", inOrder, 1, missingClient, "Key: ", (*Session).findKey},
	{"keys", "[<n> [<from>]]", inOrder, 0, "", "Keys: ", (*Session).keys},
	{"key_log", "[<from> [<n>]]", inOrder, 0, "", "Key log: ", (*Session).keyLog},
	{"key_proof", "<from> <to>", inOrder, 2, missingParameters, "Key proof: ", (*Session).keyProof},
	{"put_chain", "<base64>", 0, 1, missingParameters, "Chain stored ", (*Session).putChain},
	{"find_chain", "<sha256>", inOrder, 1, missingParameters, "Chain: ", (*Session).findChain},
	{"reset_key", "<client> [suite]", adminOnly | inOrder, 1, missingClient, "Key reset", (*Session).resetKey},
	{"move_messages", "<from> <to> <id> …", ownerOnly | inOrder, 3, missingParameters, "Moved ", (*Session).moveMessages},
	{"watch", "<exchange> <key>", 0, 2, missingParameters, "Watching", (*Session).watch},
	{"bindings", "[<queue>]", inOrder, 0, "", "Bindings: ", (*Session).bindings},
	{"status", "", inOrder, 0, "", "Status: ", (*Session).status},
	{"heartbeat", "", 0, 0, "", "", (*Session).heartbeat},
	{"attest_restore", "<records> <root>", adminOnly | inOrder, 2, missingParameters, "Restore attested ", (*Session).attestRestore},
	{"find_reset", "<client> <suite>", inOrder, 2, missingParameters, "Reset: ", (*Session).findReset},
}

// verbsByWord finds a verb.
var verbsByWord = func() map[string]Verb {
	m := make(map[string]Verb, len(table))
	for _, v := range Verbs() {
		m[table[v].word] = v
	}
	return m
}()

// String is the command word; it is "unknown" for Unknown, so that a client cannot
// choose the name of a metric.
func (v Verb) String() string {
	if int(v) >= len(table) {
		v = Unknown
	}
	return table[v].word
}

// Verbs lists the known verbs.
func Verbs() []Verb {
	list := make([]Verb, len(table)-1)
	for i := range list {
		list[i] = Unknown + 1 + Verb(i)
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

// verbOf finds the verb. The two most frequent ones come first.
func verbOf(word []byte) Verb {
	switch string(word) {
	case "publish":
		return Publish
	case "ack":
		return Ack
	}
	return verbsByWord[string(word)]
}

// atLeast reports whether args has n arguments.
func atLeast(n int, args []byte) bool {
	for ; n > 0; n-- {
		if len(args) == 0 {
			return false
		}
		_, args = cut(args)
	}
	return true
}
