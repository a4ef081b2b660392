// Package enginetest is the conformance suite that every engine.Engine passes, the
// naive model that it is measured by, a comparison of two engines under random operations,
// and a world of clients around an engine whose machine loses its power. An engine's test
// is
//
//	type opener struct{ fs *faultfs.FS }
//
//	func (o *opener) Open(tb testing.TB, cfg enginetest.Config) engine.Engine {
//		e, err := local.Open("store", local.Config{FS: o.fs, Clock: cfg.Clock, …})
//		if err != nil {
//			tb.Fatal(err)
//		}
//		return e
//	}
//
//	func newOpener(testing.TB) enginetest.Opener { return &opener{faultfs.New()} }
//
//	func TestConformance(t *testing.T) { enginetest.Run(t, newOpener) }
//	func TestAgainstModel(t *testing.T) { enginetest.Compare(t, enginetest.NewModelOpener, newOpener) }
//	func TestCrashes(t *testing.T)      { enginetest.Crashes(t, newMachine) }
//
// An Opener that also is a Crasher or a Holder gets more tests. The suite drives time
// through Config.Clock, closes every engine that it opens, and leaves no goroutine.
//
// It asks for nothing faster than it must be and uses little data. It does not test
// files, damage or disk-full behaviour: those differ between engines. It asks for an order
// of what came back only if the engine has the ability StrictRedelivery.
//
// # What the suite takes the contract to mean
//
// Where the comments of engine.Engine leave room, this is what the suite expects.
//
//   - When done of a publish runs, its messages can be fetched and taken.
//   - A repeat or a conflict is recognised before any queue is asked. Of several queues
//     any that refuses may be named. MaxBytes counts bodies. Waiting (delayed ones
//     too), unacknowledged and not yet synced messages count towards limits; a queue
//     may be filled exactly to its limit. DropOldest removes waiting messages only, those
//     not yet synced among them, and refuses with QueueFull where that cannot make room.
//   - A delivery limit counts what a consumer gave back, what it kept beyond its ack
//     timeout, and what it held when its session closed counted. It does not count what
//     never reached the consumer, nor what was given back uncounted.
//   - A delivery without acknowledgement counts as delivered and acked, and for no credit.
//     It is stored like an ack, but nobody is told when.
//   - A settlement names a delivery by its tag, attempt included. It has an effect while
//     the message was not delivered again since. Return of a message that waits already
//     has none. A settlement on a closed session has none either, and no error.
//   - A message comes back by Return, at the ack timeout, and when its session closes;
//     each counts towards the delivery limit. One that came back for the
//     DeliveryLimit-th time goes to the dead-letter queue at once.
//   - The dead-letter queue is made when first needed, with
//     sealmq.DeadLetterOptions of its queue's options. The reason is that of the
//     settlement, sealmq.DeathRejected if it has none, or sealmq.DeathDeliveryLimit.
//     A dead letter's delivery count starts again.
//   - A queue whose name ends in ".dead" has no dead-letter queue: there the delivery
//     limit does not apply, and the verdict Dead means Return.
//   - TTL counts from when a message entered the queue, also while it is in a consumer's
//     hands or delayed, but it is removed only when it waits; one that comes back after
//     its time is removed even if it came back too often.
//   - A delayed message is set aside until its delay ends: it counts, it can be settled by
//     its last holder, purged and deleted, but it is not peeked at, moved, dropped or
//     removed by its TTL.
//   - The ack timeout of every delivery that a session holds starts again with each
//     Settle of it that had an effect.
//   - Take hands out what waits when it is called, to any caller. Notify follows each
//     change that gives a subscribed session something to take, except its own calls of
//     Consume, Settle, SetPrefetch and SetCredit, after which it takes by itself.
//   - DeleteQueue answers with all messages, held ones included. A session that held
//     some holds them no more, and settling them has no effect.
//   - Peek shows the number of deliveries so far as Attempt. A moved message is like new,
//     with neither deliveries nor a death. Move stops at the first message that the
//     target's limits refuse and answers with both the number moved and the error.
//   - After a restart nothing is held. A delivery that was out may or may not have been
//     counted, one that came back before was.
//   - After Close or a crash every call is answered with code Unavailable.
package enginetest
