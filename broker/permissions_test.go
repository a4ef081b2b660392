package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// TestAuthorizationMatrix has every action for every role on ordinary and reserved
// names, and on queues of everybody. What is not listed as allowed must be denied.
func TestAuthorizationMatrix(t *testing.T) {
	everyday := []string{"publish", "consume", "declare", "bind", "inspect"}
	roles := []sealmq.Role{sealmq.RoleClient, sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleAdmin, "", "root", "Admin", "admin "}
	names := []string{"pipe", "pipe.dead", "pipe.", "pipes", "xpipe", "Pipe", "q", "sealmq", "sealmqx", "xsealmq.q", "SEALMQ.q", "q.sealmq.", "sealmq.q", "sealmq.", "alice", "bob", broker.CloseConnection, ""}
	server := []string{"inspect", "peek", "move", "purge", "delete", "change", "pause"}
	pipeline := map[sealmq.Role][]string{
		sealmq.RoleProxy:  {"publish", "declare", "bind", "inspect"},
		sealmq.RoleWorker: {"consume", "dead_letter", "declare", "bind", "inspect"},
		sealmq.RoleServer: {"peek", "move", "declare", "bind", "inspect"},
	}
	ownersOnly := []string{"delete", "purge", "peek", "move", "change", "pause", "dead_letter"}
	queue := func(owner string, private bool) *sealmq.QueueOptions {
		return &sealmq.QueueOptions{Private: private, Owner: sealmq.Owner{ID: owner}}
	}
	others := &sealmq.QueueOptions{Owner: sealmq.Owner{ID: "alice", Issuer: "another"}}
	queues := []*sealmq.QueueOptions{nil, queue("", false), queue("", true), queue("alice", false), queue("alice", true), queue("bob", false), queue("bob", true), others}
	cells := 0
	for _, role := range roles {
		for _, who := range []sealmq.Identity{
			{ID: "alice", CommonName: "alice", Role: role},
			{ID: "alice", Role: role},
			{CommonName: "alice", Role: role},
			{ID: "alice", Issuer: "own", Role: role},
			{ID: "alice", Issuer: "another", Role: role},
		} {
			isServer := role == sealmq.RoleServer && who.Issuer != "another"
			for _, act := range append(broker.Actions(), "unheard of") {
				for i := range len(names) * len(queues) {
					name, o := names[i%len(names)], queues[i/len(names)]
					cells += 2
					var want bool
					mine := o != nil && o.Owner == who.Owner()
					hidden := act == "consume" && o != nil && o.Private && !mine
					switch {
					case who.ID == "" || !slices.Contains(roles[:5], role) || hidden:
					case role == sealmq.RoleAdmin:
						want = true
					case isServer && (slices.Contains(server, act) || act == "admin" && name == broker.CloseConnection):
						want = true
					case slices.Contains(everyday, act):
						want = !strings.HasPrefix(name, "sealmq.") && (act != "bind" || o == nil || mine)
					case slices.Contains(ownersOnly, act):
						want = !strings.HasPrefix(name, "sealmq.") && (mine || act == "dead_letter" && o != nil && o.Owner == sealmq.Owner{})
					case act == "read_key":
						want = true
					case act == "write_key":
						want = who.CommonName != "" && name == who.CommonName
					case act == "find", act == "put_key", act == "put_chain":
						want = name == who.ID
					}
					for _, pipe := range []string{"", "pipe"} {
						if pipe != "" && (name == "pipe" || strings.HasPrefix(name, "pipe.")) && who.ID != "" && role != sealmq.RoleAdmin {
							switch {
							case slices.Contains(everyday, act), slices.Contains(ownersOnly, act):
								want = (slices.Contains(pipeline[role], act) || isServer && slices.Contains(server, act)) && !hidden
							}
						}
						err := broker.Authorize(pipe, broker.Caller{Identity: who}, act, name, o)
						if want != (err == nil) || err != nil && !errors.Is(err, sealmq.ErrDenied) {
							t.Errorf("pipeline %q: %+v may %s %q %+v: error %v, want allowed %v", pipe, who, act, name, o, err, want)
						}
					}
				}
			}
		}
	}
	if len(broker.Actions()) != 20 {
		t.Errorf("%d actions; list new ones here", len(broker.Actions()))
	}
	t.Logf("%d cells", cells)
}

// TestEveryCommandAsks calls each method with an identity without permission.
func TestEveryCommandAsks(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(admin, "sealmq.q", "sealmq.x", "k"))
	n.stored("x", "k", "1")
	before := n.Counts()
	c := n.Open(bob, func() {}, nil)
	defer c.Close(true)
	ask := func(f func(done func(error))) error { return n.do(f) }
	for _, tc := range []struct {
		command, object string
		err             error
	}{
		{"change", "q", ask(func(d func(error)) { n.ChangeQueue(bob, "q", sealmq.QueueOptions{}, d) })},
		{"pause", "q", ask(func(d func(error)) { n.PauseQueue(bob, "q", true, d) })},
		{"delete", "q", ask(func(d func(error)) { n.DeleteQueue(bob, "q", 0, func(_ int, err error) { d(err) }) })},
		{"delete", "x", ask(func(d func(error)) { n.DeleteExchange(bob, "x", d) })},
		{"purge", "q", ask(func(d func(error)) { n.PurgeQueue(bob, "q", func(_ int, err error) { d(err) }) })},
		{"move", "q", ask(func(d func(error)) { n.Move(bob, "q", "r", 0, func(_ int, err error) { d(err) }) })},
		{"move", "q", ask(func(d func(error)) { n.MoveMessages(bob, "q", "r", []string{"1"}, func(_ int, err error) { d(err) }) })},
		{"move", "r", ask(func(d func(error)) { n.Copy(bob, "q", "r", 0, 1, func(_ int, _ uint64, err error) { d(err) }) })},
		{"peek", "q", func() error { _, err := n.Peek(bob, "q", 0, 1); return err }()},
		{"find", "alice", func() error { _, _, err := n.Find(bob, "1"); return err }()},
		{"declare", "sealmq.y", ask(func(d func(error)) { n.DeclareExchange(bob, "sealmq.y", "", d) })},
		{"declare", "sealmq.r", ask(func(d func(error)) { n.DeclareQueue(bob, "sealmq.r", nil, d) })},
		{"bind", "sealmq.q", ask(func(d func(error)) { n.Bind(bob, "sealmq.q", "x", "k", d) })},
		{"bind", "sealmq.x", ask(func(d func(error)) { n.Bind(bob, "q", "sealmq.x", "k", d) })},
		{"bind", "sealmq.q", ask(func(d func(error)) { n.Unbind(bob, "sealmq.q", "sealmq.x", "k", d) })},
		{"consume", "sealmq.q", ask(func(d func(error)) { c.Consume("sealmq.q", engine.ConsumeOptions{}, d) })},
		{"consume", "sealmq.q", ask(func(d func(error)) { c.Fetch("sealmq.q", false, func(_ engine.Fetched, err error) { d(err) }) })},
		{"bind", "sealmq.x", ask(func(d func(error)) { c.Watch("sealmq.x", "k", d) })},
		{"inspect", "sealmq.q", func() error { _, err := n.Queue(bob, "sealmq.q"); return err }()},
		{"inspect", "sealmq.q", func() error { _, err := n.Bindings(bob, "sealmq.q"); return err }()},
		{"write_key", "alice", func() error { _, err := n.putKey(bob, "alice", bareKey(9)); return err }()},
		{"publish", "sealmq.x", n.publish(bob, engine.Publish{Message: sealmq.Message{Exchange: "sealmq.x", Key: "k"}})[0].Err},
		{"reset_key", "alice", ask(func(d func(error)) { n.Keys().Reset(bob.Identity, "alice", "", func(_ []int64, err error) { d(err) }) })},
		{"attest_restore", "the key directory", ask(func(d func(error)) {
			n.Keys().AttestRestore(bob.Identity, keylog.Restore{}.Lost, func(_ int64, err error) { d(err) })
		})},
		{"reset_stats", "", n.RequireAdmin(bob, "reset_stats")},
	} {
		if !errors.Is(tc.err, sealmq.ErrDenied) {
			t.Errorf("%s %s: error %v, want code %s", tc.command, tc.object, tc.err, sealmq.Denied)
		}
		if !n.audit.has(entry{"bob", tc.command, tc.object, sealmq.Denied}) {
			t.Errorf("%s %s: not in the audit", tc.command, tc.object)
		}
	}
	if _, ok := n.Keys().Key(broker.Caller{}.Identity, "alice"); ok {
		t.Error("nobody may read a key")
	}
	if got := n.Counts(); got != before {
		t.Errorf("something was changed: %+v, was %+v", got, before)
	}
	n.holds("q", "1")
}

func TestAdministratorsCommandsAreAudited(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.declareQueue(alice, "r", nil))
	n.stored("x", "k", "1")
	n.must(n.RequireAdmin(admin, "close_connection"))
	if n.audit.has(entry{"admin", "close_connection", "", ""}) {
		t.Error("a command is on record before it is done")
	}
	peers := connections{5: "alice"}
	n.must(n.Manage(admin, peers).CloseConnection(t.Context(), 5))
	n.code(sealmq.BadArgument, n.Manage(admin, peers).CloseConnection(t.Context(), 6))
	n.waiting("q")
	moved, err := wait(t, func(d func(int, error)) { n.Move(admin, "q", "r", 0, d) })
	n.must(err)
	purged, err := wait(t, func(d func(int, error)) { n.PurgeQueue(admin, "r", d) })
	n.must(err)
	if moved != 1 || purged != 1 {
		t.Errorf("moved %d and purged %d, want 1", moved, purged)
	}
	_, err = n.deleteQueue(admin, "q")
	n.must(err)
	_, err = n.deleteQueue(admin, "none")
	n.code(sealmq.NoQueue, err)
	n.must(n.deleteExchange(admin, "x"))
	_, err = n.putKey(admin, "bob", bareKey(9))
	n.must(err)
	for _, e := range []entry{
		{"admin", "close_connection", "5 alice", ""}, {"admin", "close_connection", "6", sealmq.BadArgument},
		{"admin", "peek", "q", ""}, {"admin", "move", "q r", ""},
		{"admin", "purge", "r", ""}, {"admin", "delete", "q", ""}, {"admin", "delete", "none", sealmq.NoQueue},
		{"admin", "delete", "x", ""}, {"admin", "write_key", "bob", ""},
	} {
		if !n.audit.has(e) {
			t.Errorf("not in the audit: %+v", e)
		}
	}
}

// connections are the clients of connections that can be closed.
type connections map[uint64]string

func (c connections) ConnectionsOf(func(*sealmq.Identity) bool) []sealmq.ConnectionInfo { return nil }

func (c connections) CloseConnection(id uint64) (client string, err error) {
	if c[id] == "" {
		return "", &sealmq.Error{Code: sealmq.BadArgument, Message: "no such connection"}
	}
	return c[id], nil
}

// TestMainServersOwnLooksAreNotAudited: it looks at the pipeline's queue several times a second.
func TestMainServersOwnLooksAreNotAudited(t *testing.T) {
	n := open(t, func(c *broker.Config) { c.PipelineQueue = "message_queue" })
	main := broker.Caller{Identity: sealmq.Identity{ID: "server", Role: sealmq.RoleServer}}
	n.must(n.declareQueue(main, "message_queue", nil))
	n.must(n.declareQueue(alice, "q", nil))
	for _, queue := range []string{"message_queue", "q"} {
		_, err := n.Peek(main, queue, 0, 1)
		n.must(err)
	}
	if n.audit.has(entry{"server", "peek", "message_queue", ""}) || !n.audit.has(entry{"server", "peek", "q", ""}) {
		t.Error("the audit has the looks at message_queue, or not those at q")
	}
}

// TestExistenceIsNotTold has the same answer whether a reserved thing exists or not.
func TestExistenceIsNotTold(t *testing.T) {
	n := open(t)
	n.must(n.bind(admin, "sealmq.a", "sealmq.x", "k"))
	for _, pair := range [][2]error{
		{n.unbind(bob, "sealmq.a", "sealmq.x", "k"), n.unbind(bob, "sealmq.b", "sealmq.y", "k")},
		{n.publish(bob, engine.Publish{Message: sealmq.Message{Exchange: "sealmq.x", Key: "k"}})[0].Err, n.publish(bob, engine.Publish{Message: sealmq.Message{Exchange: "sealmq.y", Key: "k"}})[0].Err},
	} {
		if sealmq.CodeOf(pair[0]) != sealmq.Denied || sealmq.CodeOf(pair[1]) != sealmq.Denied {
			t.Errorf("errors %v and %v", pair[0], pair[1])
		}
	}
}
