package enginetest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// operation is one thing that Compare does.
type operation struct {
	name string
	run  func(p *pair)
}

// GoString is how a draw of it is printed.
func (o operation) GoString() string { return o.name }

// opening makes it likely that there is something to do.
var opening = slices.Concat(
	repeat(4, operation{"declare", (*pair).declare}),
	repeat(3, operation{"open session", (*pair).openSession}),
	repeat(4, operation{"consume", (*pair).consume}),
)

// operations has the frequent ones more often. The first does nothing, so that a failing
// sequence can be made shorter.
var operations = slices.Concat(
	repeat(1, operation{"nothing", func(*pair) {}}),
	repeat(6, operation{"publish", (*pair).publish}),
	repeat(6, operation{"take", (*pair).take}),
	repeat(6, operation{"settle", (*pair).settle}),
	repeat(3, operation{"declare", (*pair).declare}),
	repeat(3, operation{"open session", (*pair).openSession}),
	repeat(3, operation{"consume", (*pair).consume}),
	repeat(2, operation{"fetch", (*pair).fetch}),
	repeat(2, operation{"advance", (*pair).advance}),
	repeat(1, operation{"set prefetch", (*pair).setPrefetch}),
	repeat(1, operation{"set credit", (*pair).setCredit}),
	repeat(1, operation{"cancel", (*pair).cancel}),
	repeat(1, operation{"close session", (*pair).closeSession}),
	repeat(1, operation{"define", (*pair).define}),
	repeat(1, operation{"peek", (*pair).peek}),
	repeat(1, operation{"move", (*pair).move}),
	repeat(1, operation{"find", (*pair).find}),
	repeat(1, operation{"purge", (*pair).purge}),
	repeat(1, operation{"delete", (*pair).remove}),
	repeat(1, operation{"restart", (*pair).restart}),
)

func repeat(n int, o operation) []operation { return slices.Repeat([]operation{o}, n) }

// Names and contents are few, so that operations meet. Time goes in steps of twelve
// seconds and every limit, the default ack timeout too, lies six seconds beside a step,
// so that an engine may be a little late.
var (
	drawQueue   = rapid.SampledFrom([]string{"a", "b", "c", "a.dead", "b.dead"})
	drawOptions = rapid.SampledFrom([]*sealmq.QueueOptions{
		nil,
		{},
		{MaxMessages: 3},
		{MaxMessages: 4, DropOldest: true},
		{MaxBytes: 500},
		{MaxBytes: 500, DropOldest: true, Prefetch: 2},
		{TTL: 42 * time.Second, AckTimeout: 54 * time.Second},
		{DeliveryLimit: 2, AckTimeout: 18 * time.Second},
		{DeliveryLimit: 1, MaxLineBytes: 1024, TTL: 90 * time.Second},
	})
	drawID    = rapid.SampledFrom([]string{"", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"})
	drawScope = rapid.SampledFrom([]string{"", "alice", "bob"})
	drawSize  = rapid.SampledFrom([]int{0, 5, 200, 1500})
)

const step = 12 * time.Second

// declare gives a dead-letter queue neither limits nor a TTL: dead letters may wait for room until
// the clock moves, and may arrive a
// moment later than what else a call does, and what a full queue then drops, and when
// they entered it on a clock that goes in steps, is open.
func (p *pair) declare() {
	name, o := drawQueue.Draw(p.T, "queue"), drawOptions.Draw(p.T, "options")
	if isDead(name) && o != nil && (o.MaxMessages > 0 || o.MaxBytes > 0 || o.TTL > 0 || o.MaxLineBytes > 0) {
		o = nil
	}
	options, compare := declaration(o)
	p.call("declare "+name, func(_ int, e engine.Engine, done func(any, error)) {
		e.DeclareQueue(name, options, compare, func(_ engine.QueueInfo, created bool, err error) { done(created, err) })
	})
}

func (p *pair) remove() {
	name := drawQueue.Draw(p.T, "queue")
	only := rapid.SampledFrom([]engine.If{0, engine.IfUnused, engine.IfEmpty, engine.IfUnused | engine.IfEmpty}).Draw(p.T, "only if")
	r := p.call("delete "+name, func(_ int, e engine.Engine, done func(any, error)) {
		e.DeleteQueue(name, only, func(n int, err error) { done(n, err) })
	})
	if r.Code == "" {
		for _, s := range p.sessions {
			delete(s.subs, name)
		}
	}
}

func (p *pair) purge() {
	name := drawQueue.Draw(p.T, "queue")
	p.call("purge "+name, func(_ int, e engine.Engine, done func(any, error)) {
		e.PurgeQueue(name, func(n int, err error) { done(n, err) })
	})
}

func (p *pair) publish() {
	var batch []engine.Publish
	for range rapid.IntRange(1, 5).Draw(p.T, "messages") {
		m := message(drawID.Draw(p.T, "id"))
		m.Exchange = rapid.SampledFrom([]string{"x", "y"}).Draw(p.T, "exchange")
		m.Body = make([]byte, drawSize.Draw(p.T, "size"))
		m.Published = p.clock.Now()
		queues := rapid.SliceOfNDistinct(drawQueue, 1, 3, rapid.ID[string]).Draw(p.T, "queues")
		digest := rapid.SampledFrom([]string{"", "", "", "1", "2"}).Draw(p.T, "digest")
		repeat := rapid.SampledFrom([]engine.Repeat{engine.ByID, engine.ByID, engine.ByID, engine.Never}).Draw(p.T, "repeat")
		m.Digest = []byte(digest)
		batch = append(batch, engine.Publish{Message: m, Queues: queues, Repeat: repeat, Scope: drawScope.Draw(p.T, "scope")})
	}
	type result struct {
		Outcome engine.Outcome
		Code    sealmq.Code
	}
	p.call("publish", func(_ int, e engine.Engine, done func(any, error)) {
		e.Publish(batch, func(results []engine.PublishResult) {
			list := make([]result, len(results))
			for i, r := range results {
				list[i] = result{r.Outcome, sealmq.CodeOf(r.Err)}
				if len(batch[i].Queues) > 1 && r.Outcome == engine.Refused {
					list[i].Code = "" // of whichever queue was asked first
				}
			}
			done(list, nil)
		})
	})
}

func (p *pair) define() {
	var batch []engine.Definition
	for range rapid.IntRange(0, 3).Draw(p.T, "definitions") {
		d := engine.Definition{Key: rapid.SampledFrom([]string{"k", "l", "m"}).Draw(p.T, "key")}
		if rapid.Bool().Draw(p.T, "set") {
			d.Value = []byte(rapid.SampledFrom([]string{"", "1", "2"}).Draw(p.T, "value"))
		}
		batch = append(batch, d)
	}
	p.simple("define", func(_ int, e engine.Engine, done func(error)) { e.Define(batch, done) })
}

func (p *pair) openSession() {
	if len(p.sessions) == 4 {
		return
	}
	s := &twin{subs: make(map[string][2]sealmq.SubscriptionID), fetches: rapid.IntRange(0, 3).Draw(p.T, "fetches") == 0,
		sets: rapid.Bool().Draw(p.T, "sets prefetch"), shares: rapid.IntRange(0, 3).Draw(p.T, "shares credit") == 0,
		noAck: rapid.IntRange(0, 7).Draw(p.T, "no ack") == 0}
	for i, e := range p.engines {
		s.sessions[i] = e.NewSession(engine.SessionConfig{})
	}
	p.sessions = append(p.sessions, s)
}

// session draws a session that is of the kind that is asked for, or returns nil.
func (p *pair) session(ok func(*twin) bool) *twin {
	var list []*twin
	for _, s := range p.sessions {
		if ok(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(p.T, "session")]
}

func (p *pair) closeSession() {
	s := p.session(func(*twin) bool { return true })
	if s == nil {
		return
	}
	counted := rapid.Bool().Draw(p.T, "counted")
	for i := range p.engines {
		s.sessions[i].Close(counted)
	}
	p.sessions = slices.DeleteFunc(p.sessions, func(other *twin) bool { return other == s })
}

// consume subscribes a session at most once to a queue: which of two subscriptions gets a
// message is open.
func (p *pair) consume() {
	name, prefetch := drawQueue.Draw(p.T, "queue"), 0
	s := p.session(func(s *twin) bool {
		return !s.fetches && !(s.sets && isDead(name)) && !(s.shares && (len(s.subs) > 0 || isDead(name)))
	})
	if s == nil {
		return
	}
	if !s.sets && !isDead(name) {
		prefetch = rapid.IntRange(-1, 3).Draw(p.T, "prefetch")
	}
	if subs, ok := s.subs[name]; ok {
		for i := range p.engines {
			s.sessions[i].SetPrefetch(subs[i], prefetch)
		}
		return
	}
	var subs [2]sealmq.SubscriptionID
	r := p.call("consume "+name, func(i int, _ engine.Engine, done func(any, error)) {
		o := engine.ConsumeOptions{Prefetch: prefetch, NoAck: s.noAck}
		subs[i] = s.sessions[i].Consume(name, o, func(err error) { done(nil, err) })
	})
	if r.Code == "" {
		s.subs[name] = subs
	}
}

func (p *pair) cancel() {
	name := drawQueue.Draw(p.T, "queue")
	s := p.session(func(s *twin) bool { _, ok := s.subs[name]; return ok })
	if s == nil {
		return
	}
	p.simple("cancel "+name, func(i int, _ engine.Engine, done func(error)) { s.sessions[i].Cancel(s.subs[name][i], done) })
	delete(s.subs, name)
}

func (p *pair) setCredit() {
	s := p.session(func(s *twin) bool { return s.shares })
	if s == nil {
		return
	}
	n := rapid.IntRange(-1, 4).Draw(p.T, "credit")
	for i := range p.engines {
		s.sessions[i].SetCredit(n)
	}
}

func (p *pair) setPrefetch() {
	s := p.session(func(s *twin) bool { return s.sets && !s.fetches })
	if s == nil {
		return
	}
	n := rapid.IntRange(engine.Paused, 4).Draw(p.T, "prefetch")
	for i := range p.engines {
		s.sessions[i].SetPrefetch(0, n)
	}
}

func (p *pair) fetch() {
	s := p.session(func(s *twin) bool { return s.fetches })
	if s == nil {
		return
	}
	name := drawQueue.Draw(p.T, "queue")
	if isDead(name) {
		return
	}
	var got [2][]sealmq.Delivery
	p.call("fetch from "+name, func(i int, _ engine.Engine, done func(any, error)) {
		s.sessions[i].Fetch(name, s.noAck, func(f engine.Fetched, err error) {
			if f.Found {
				got[i] = append(got[i], f.Delivery)
			}
			done(f.Waiting, err)
		})
	})
	p.compareDeliveries("fetch from "+name, s, got[0], got[1])
}

// take takes everything where the engines may choose between queues, and no more than a
// drawn number where they may not.
func (p *pair) take() {
	s := p.session(func(s *twin) bool { return len(s.subs) > 0 })
	if s == nil {
		return
	}
	most := sealmq.MaxPrefetch
	alone := ""
	for name := range s.subs {
		alone = name
	}
	if len(s.subs) == 1 && !isDead(alone) {
		most = rapid.IntRange(1, 5).Draw(p.T, "most")
	}
	var got [2][]sealmq.Delivery
	p.call("take", func(i int, _ engine.Engine, done func(any, error)) {
		var err error
		for more := true; more && err == nil && len(got[i]) < most; {
			before := len(got[i]) // an engine may leave a share to others, once
			got[i], err = s.sessions[i].Take(got[i], most-before, everything)
			more = len(got[i]) > before
		}
		done(len(got[i]), err)
	})
	p.compareDeliveries("take", s, got[0], got[1])
}

// settle settles late deliveries, which are likely to be held, mostly by the session that
// got them.
func (p *pair) settle() {
	if len(p.deliveries) == 0 || len(p.sessions) == 0 {
		return
	}
	late := func() handed {
		back := rapid.IntRange(0, min(len(p.deliveries)-1, 12)).Draw(p.T, "back")
		return p.deliveries[len(p.deliveries)-1-back]
	}
	s := late().to
	if rapid.IntRange(0, 3).Draw(p.T, "by another") == 3 {
		s = p.session(func(*twin) bool { return true })
	}
	var batches [2][]engine.Settlement
	for range rapid.IntRange(1, 5).Draw(p.T, "settlements") {
		d, b := late(), p.drawSettlement()
		for i := range batches {
			b.Tag = d.tags[i]
			batches[i] = append(batches[i], b)
		}
	}
	p.simple("settle", func(i int, _ engine.Engine, done func(error)) { s.sessions[i].Settle(batches[i], done) })
}

func (p *pair) drawSettlement() engine.Settlement {
	b := engine.Settlement{Verdict: rapid.SampledFrom([]engine.Verdict{
		engine.Ack, engine.Return, engine.Dead, engine.Return, engine.Ack, engine.Extend, engine.Drop}).Draw(p.T, "verdict")}
	switch b.Verdict {
	case engine.Return:
		b.Delay = rapid.SampledFrom([]time.Duration{0, 18 * time.Second, 30 * time.Second}).Draw(p.T, "delay")
		b.Uncounted = rapid.Bool().Draw(p.T, "uncounted")
		p.delayed = p.delayed || b.Delay > 0
	case engine.Dead:
		b.Reason = rapid.SampledFrom([]string{"", "why"}).Draw(p.T, "reason")
	}
	return b
}

func (p *pair) advance() {
	p.clock.Advance(time.Duration(rapid.IntRange(1, 6).Draw(p.T, "steps of time")) * step)
}

func (p *pair) peek() {
	name, n := drawQueue.Draw(p.T, "queue"), rapid.IntRange(1, 10).Draw(p.T, "most")
	if isDead(name) {
		n = sealmq.MaxPeek
	}
	skip := rapid.IntRange(0, 2).Draw(p.T, "skip")
	p.call("peek into "+name, func(_ int, e engine.Engine, done func(any, error)) {
		var from uint64
		if before, _ := e.(engine.Peeker).Peek(name, 0, skip); skip > 0 && len(before) > 0 && !isDead(name) {
			from = before[len(before)-1].Tag.Seq + 1
		}
		list, err := e.(engine.Peeker).Peek(name, from, n)
		list = inOrder(list)
		for i := range list {
			list[i].Tag = sealmq.DeliveryTag{}
		}
		done(list, err)
	})
}

// move empties a dead-letter queue of one message only, because the order of dead letters
// is open, and the other queue would keep it.
func (p *pair) move() {
	names := rapid.SliceOfNDistinct(drawQueue, 2, 2, rapid.ID[string]).Draw(p.T, "queues")
	n := rapid.IntRange(0, 3).Draw(p.T, "most")
	if info, _ := p.engines[0].Queue(names[0]); isDead(names[0]) && info.Ready > 1 {
		return
	}
	ids := rapid.SliceOfN(drawID, 0, 3).Draw(p.T, "ids")
	p.call("move from "+names[0]+" to "+names[1], func(_ int, e engine.Engine, done func(any, error)) {
		answer := func(moved int, err error) { done(moved, err) }
		if len(ids) > 0 {
			e.(engine.Mover).MoveMessages(names[0], names[1], ids, answer)
			return
		}
		e.(engine.Mover).Move(names[0], names[1], n, answer)
	})
}

func (p *pair) find() {
	id := rapid.SampledFrom([]string{"1", "2", "3", "none"}).Draw(p.T, "id")
	p.call("find "+id, func(_ int, e engine.Engine, done func(any, error)) {
		m, ok := e.(engine.Finder).Find(id, "")
		done([]any{ok, m.ID}, nil) // of several, which one is open
	})
}

// restart ends all sessions first, because whether a delivery that was out at a crash
// counts is open, and lets delays pass, because whether they outlive a restart is too.
func (p *pair) restart() {
	for len(p.sessions) > 0 {
		s := p.sessions[0]
		for i := range p.engines {
			s.sessions[i].Close(true)
		}
		p.sessions = p.sessions[1:]
		p.same("the end of a session")
	}
	if p.delayed {
		p.clock.Advance(4 * step)
		p.same("the end of all delays")
		p.delayed = false
	}
	p.barrier() // what was seen may not be synced yet, dead letters above all
	a, crashA := p.openers[0].(Crasher)
	b, crashB := p.openers[1].(Crasher)
	if crashA && crashB && rapid.Bool().Draw(p.T, "crash") {
		a.Crash(p.tb)
		b.Crash(p.tb)
	} else {
		p.close()
	}
	p.open()
}
