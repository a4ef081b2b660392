package enginetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// The queues of a world.
var worldQueues = map[string]sealmq.QueueOptions{
	"a":       {},
	"b":       {DeliveryLimit: 3},
	"limited": {MaxMessages: 25},
	"target":  {},
}

// Live opens the engine, has n random things done, and closes it.
func (w *World) Live(n int) error {
	if err := w.Open(); err != nil {
		return err
	}
	err := w.SetUp()
	if err == nil {
		err = w.Work(n)
	}
	return errors.Join(err, w.Close())
}

// SetUp declares the queues, as a first start would.
func (w *World) SetUp() error {
	for _, name := range slices.Sorted(maps.Keys(worldQueues)) {
		w.declare(name, worldQueues[name])
	}
	w.define()
	return w.settle()
}

func (w *World) setUpAndWork(n int) error {
	if err := w.SetUp(); err != nil {
		return err // queues may be missing
	}
	return w.Work(n)
}

// Work does random things until n are done or the engine has stopped.
func (w *World) Work(n int) error {
	for range n {
		if w.client == nil {
			w.consume("a", "b", "limited", "target", "b.dead")
		}
		if err := w.step(); err != nil {
			return err
		}
		if w.rng.IntN(3) > 0 {
			if err := w.settle(); err != nil {
				return err
			}
		}
		if isClosed(w.Engine.Failed()) {
			return errors.Join(errWorkEnded, w.settle())
		}
	}
	return w.settle()
}

// step does one random thing.
func (w *World) step() error {
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3, 4:
		w.publish(1+w.rng.IntN(4), "a")
	case 5, 6:
		w.publish(1+w.rng.IntN(3), "a", "b")
	case 7:
		w.publish(1+w.rng.IntN(5), "limited")
	case 8, 9, 10, 11:
		w.take(1 + w.rng.IntN(12))
		w.settleSome(engine.Ack, 0.8)
	case 12:
		w.take(1 + w.rng.IntN(6))
		w.settleSome(engine.Return, 0.5)
	case 13:
		w.take(1 + w.rng.IntN(3))
		w.settleSome([]engine.Verdict{engine.Dead, engine.Dead, engine.Drop}[w.rng.IntN(3)], 0.3)
	case 14:
		w.define()
		w.takeForGood(w.rng.IntN(3))
	case 15:
		w.temporary()
	case 16:
		return w.move("a", "target", 1+w.rng.IntN(4))
	case 17:
		if w.rng.IntN(3) == 0 {
			w.purge([]string{"target", "limited"}[w.rng.IntN(2)])
		}
	case 18:
		w.closeSession()
	case 19:
		w.clock.Advance(1500 * time.Millisecond)
	}
	return nil
}

// temporary declares or deletes a queue that comes and goes.
func (w *World) temporary() {
	name := fmt.Sprintf("temp-%d", w.rng.IntN(3))
	if q := w.queues[name]; q != nil && q.must {
		w.deleteQueue(name)
		return
	}
	if q := w.queues[name]; q != nil && q.may {
		return // nobody knows whether it is there
	}
	w.declare(name, sealmq.QueueOptions{MaxMessages: int64(10 + w.serial)})
	w.publish(1+w.rng.IntN(3), name)
}

// Survives opens the engine and checks it, goes on working, and opens it once more.
func (w *World) Survives() error {
	for round, n := range []int{40, 0} {
		if err := w.Open(); err != nil {
			return err
		}
		err := errors.Join(w.Check(), w.Republish(40))
		if i, ok := w.Machine.(Inspector); ok && round > 0 {
			err = errors.Join(err, i.Intact(w.Engine))
		}
		if err == nil {
			err = w.adopt()
		}
		if err == nil && n > 0 {
			err = w.setUpAndWork(n)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			return fmt.Errorf("opening %d: %w", round+1, err)
		}
	}
	return nil
}

// liveOn opens and checks what a crash has left, and works on until the next one.
func (w *World) liveOn(n int) error {
	err := w.Open()
	if err == nil {
		err = w.Check()
	}
	if err == nil {
		err = w.adopt()
	}
	if err == nil {
		err = w.setUpAndWork(n)
	}
	if w.isOff() {
		return nil
	}
	return err
}
