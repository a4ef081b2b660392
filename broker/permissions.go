package broker

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// action is what a caller wants to do. Its text is the command in metrics and in the
// audit.
type action string

const (
	actPublish  action = "publish"
	actConsume  action = "consume"
	actDeclare  action = "declare"
	actBind     action = "bind" // and unbind
	actInspect  action = "inspect"
	actReadKey  action = action(keylog.ReadKey)
	actWriteKey action = action(keylog.WriteKey)   // the caller's own
	actPutEntry action = action(keylog.PutEntry)   // the caller's own
	actPutChain action = action(keylog.StoreChain) // the caller's own
	actResetKey action = action(keylog.ResetKey)
	actChange   action = "change" // the options of a queue
	actPause    action = "pause"  // and resume
	actAttest   action = action(keylog.Attest)
	actDelete   action = "delete"
	actPurge    action = "purge"
	actPeek     action = "peek"
	actMove     action = "move"
	actDead     action = "dead_letter"
	actFind     action = "find"  // object is the message's publisher
	actAdmin    action = "admin" // a command of a protocol that is not about a named object
)

// CloseConnection is the administrative command that closes a connection; see RequireAdmin.
const CloseConnection = "close_connection"

// reservedPrefix begins the names that only administrators use.
const reservedPrefix = "sealmq."

// grants are what everybody may do.
type grants struct {
	pipeline string                   // name of the pipeline's queue and exchange, and the beginning of others; empty if there are none
	own      func(issuer string) bool // see Config.OwnIssuer
}

// pipelineGrants are what the roles of a pipeline may do with its queues and its exchange.
// Beside them only RoleAdmin may do anything, and RoleServer what serverGrants says.
var pipelineGrants = map[sealmq.Role][]action{
	sealmq.RoleProxy:  {actPublish, actDeclare, actBind, actInspect},
	sealmq.RoleWorker: {actConsume, actDead, actDeclare, actBind, actInspect},
	sealmq.RoleServer: {actPeek, actMove, actDeclare, actBind, actInspect},
}

// serverGrants are what the main server may do with every queue and exchange, because it does so
// for the people whom it lets in. It takes no messages, changes no keys, and bans nobody.
var serverGrants = []action{actInspect, actPeek, actMove, actPurge, actDelete, actChange, actPause}

// isMainServer reports whether serverGrants are the caller's.
func (g grants) isMainServer(c Caller) bool {
	return c.Role == sealmq.RoleServer && (c.Issuer == "" || g.own != nil && g.own(c.Issuer))
}

// ofPipeline reports whether a queue or an exchange of this name is the pipeline's.
func (g grants) ofPipeline(name string) bool {
	rest, ok := strings.CutPrefix(name, g.pipeline)
	return g.pipeline != "" && ok && (rest == "" || rest[0] == '.')
}

// owned is what authorize must know of the queue or the exchange that an action is about. It is
// zero if there is none of that name, or if nobody's leave is needed.
type owned struct {
	exists  bool
	owner   sealmq.Owner
	private bool
}

func ofQueue(o *sealmq.QueueOptions) owned {
	return owned{exists: true, owner: o.Owner, private: o.Private}
}

// isOf reports whether a client is the owner.
func (o owned) isOf(c Caller) bool { return o.exists && o.owner == c.Owner() }

// authorize is the one place that decides what an identity may do; everything else asks
// it. object is the name that the action is about, exactly as it will be used, after it
// was checked. What is not allowed here is denied.
//
// The default grant of an identity of any role: publish to, consume from, declare,
// bind and look at everything but reserved names, what is the pipeline's, and the private queues
// and the bindings of others; delete, purge, peek into, and move and dead-letter messages of what
// it owns; find its own messages; read every key and write its own. Consumers may dead-letter in
// queues that are the administrators'. The pipeline and the main server have grants of their own.
// Everything else needs RoleAdmin.
func (g grants) authorize(c Caller, act action, object string, of owned) error {
	if g.allows(c, act, object, of) {
		return nil
	}
	return denied(act, object)
}

// allows is authorize for what is only looked at, without an error.
func (g grants) allows(c Caller, act action, object string, of owned) bool {
	if c.ID == "" || act == actConsume && of.private && !of.isOf(c) {
		return false
	}
	switch c.Role {
	case sealmq.RoleAdmin:
		return true
	case sealmq.RoleClient, sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer:
	default:
		return false
	}
	if g.isMainServer(c) && (slices.Contains(serverGrants, act) || act == actAdmin && object == CloseConnection) {
		return true
	}
	switch act { // what is not about a queue or an exchange
	case actReadKey:
		return true
	case actFind, actPutEntry, actPutChain:
		return object == c.ID
	case actWriteKey:
		return c.CommonName != "" && object == c.CommonName
	case actResetKey, actAttest, actAdmin:
		return false
	}
	switch {
	case g.ofPipeline(object):
		return slices.Contains(pipelineGrants[c.Role], act)
	case strings.HasPrefix(object, reservedPrefix):
		return false
	}
	switch act {
	case actPublish, actConsume, actDeclare, actInspect:
		return true
	case actBind:
		return !of.exists || of.isOf(c)
	case actDead:
		return of.exists && of.owner == (sealmq.Owner{}) || of.isOf(c)
	case actDelete, actPurge, actPeek, actMove, actChange, actPause:
		return of.isOf(c)
	}
	return false
}

// denials complete "not allowed to" for the caller.
var denials = map[action]string{
	actPublish:  "publish to",
	actConsume:  "consume from",
	actDeclare:  "declare",
	actBind:     "bind or unbind",
	actInspect:  "look at",
	actReadKey:  "read the key of",
	actWriteKey: "write the key of",
	actPutEntry: "put a key entry of",
	actPutChain: "store the certificates of",
	actResetKey: "reset the key of",
	actChange:   "change the options of",
	actPause:    "pause or resume",
	actAttest:   "attest a restore of",
	actDelete:   "delete",
	actPurge:    "purge",
	actPeek:     "peek into",
	actMove:     "move messages of",
	actDead:     "dead-letter messages of",
	actFind:     "find messages of",
	actAdmin:    "use",
}

func denied(act action, object string) error {
	return &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to " + denials[act] + " '" + object + "'"}
}

// Audit records what somebody did or tried. object is what the command was about, for example a
// ConnectionObject, and may be empty.
func (b *Broker) Audit(c Caller, command, object string, outcome error) {
	if b.sink != nil {
		b.sink.Write(audit.Record{Time: b.clock.Now(), Identity: c.Identity, Command: command, Object: object, Outcome: outcome})
	}
}

// allow is allowOf for what nobody owns.
func (b *Broker) allow(c Caller, act action, object string) error {
	return b.allowOf(c, act, object, owned{})
}

// allowOf asks authorize, and counts and audits a refusal. Every command asks it before it
// changes or shows anything; those of the key directory ask through keylog.Config.Allow.
func (b *Broker) allowOf(c Caller, act action, object string, of owned) error {
	if b.closed.Load() {
		return sealmq.ErrUnavailable
	}
	err := b.grants.authorize(c, act, object, of)
	if err != nil {
		b.metrics.denied(act)
		b.Audit(c, string(act), strings.Clone(object), err) // it may be part of a read buffer
	}
	return err
}

// SeesConnection reports which connections a caller may see: administrators and the main server
// see all, others those of their own identity, because addresses and names of others are not
// their business.
func (b *Broker) SeesConnection(c Caller) func(*sealmq.Identity) bool {
	all := c.Role == sealmq.RoleAdmin || b.grants.isMainServer(c)
	return func(id *sealmq.Identity) bool { return all || id.ID == c.ID && id.Issuer == c.Issuer }
}

// RequireAdmin checks that the caller may use an administrative command of a protocol
// that is not about a queue or an exchange, such as "reset_stats" or CloseConnection.
// A refusal is counted and audited. What became of an allowed command goes to Audit.
func (b *Broker) RequireAdmin(c Caller, command string) error {
	if b.closed.Load() {
		return sealmq.ErrUnavailable
	}
	err := b.grants.authorize(c, actAdmin, command, owned{})
	if err != nil {
		b.metrics.denied(actAdmin)
		b.Audit(c, command, "", err)
	}
	return err
}

// ConnectionObject is how the audit names a connection: its id, and its client if there was such
// a connection.
func ConnectionObject(id uint64, client string) string {
	return strings.TrimSpace(strconv.FormatUint(id, 10) + " " + client)
}
