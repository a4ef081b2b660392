package enginetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// modelMachine runs a model. harm is what happens to its events while the power is off.
type modelMachine struct {
	*Disk
	harm func([]event) []event
}

func (m *modelMachine) Open(cfg Config) (engine.Engine, error) {
	if m.isOff() {
		return nil, errors.New("the power is off")
	}
	return m.open(cfg), nil
}

// PowerOffAt counts an event as a change.
func (m *modelMachine) PowerOffAt(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = n
}

func (m *modelMachine) Off() <-chan struct{} { return m.off }

// Reboot keeps the first few of the events that are not synced.
func (m *modelMachine) Reboot(seed uint64) {
	m.mu.Lock()
	m.synced += int(seed % uint64(len(m.events)-m.synced+1))
	m.mu.Unlock()
	if m.current() != nil {
		m.Crash(nil)
	}
	m.left, m.off = 0, make(chan struct{})
	if m.harm != nil {
		m.events = m.harm(m.events)
		m.synced = len(m.events)
	}
}

// TestModelCrashes shows that the world blames no engine that keeps its promises. The engines that
// are kept for their sake go through it at length.
func TestModelCrashes(t *testing.T) {
	crashes(t, func() Machine { return &modelMachine{Disk: NewDisk()} }, true)
}

// TestWorldNoticesBugs harms what a crash leaves. A world that goes on with it is worth
// nothing.
func TestWorldNoticesBugs(t *testing.T) {
	for _, tc := range []struct {
		name string
		harm func([]event) []event
	}{
		{"loses what left", without[gone]},
		{"loses delivery counts", without[returned]},
		{"loses moves", without[moved]},
		{"brings deleted queues back", without[deleted]},
		{"loses definitions", without[defined]},
		{"loses the last tenth", func(events []event) []event { return events[:len(events)*9/10] }},
		{"changes an id", func(events []event) []event {
			return changeLast(events, func(s stored) stored { s.message.ID += "x"; return s })
		}},
		{"changes a body", func(events []event) []event {
			return changeLast(events, func(s stored) stored { s.message.Body = []byte("other"); return s })
		}},
		{"stores in one of two queues", func(events []event) []event {
			return changeLast(events, func(s stored) stored { s.queues = s.queues[:1]; return s })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(50) {
				v := new(verdict)
				m := &modelMachine{Disk: NewDisk()}
				w := NewWorld(v, m, seed)
				w.patience = 20 * time.Millisecond
				m.PowerOffAt(300 + int(seed))
				if err := w.Live(400); err != nil && !w.Stopped(err) {
					t.Fatal(err)
				}
				m.harm = tc.harm
				w.Reboot(seed)
				m.harm = nil
				if survives(w) != nil || v.Failed() {
					return
				}
			}
			t.Error("nothing was noticed")
		})
	}
}

// survives has a model that panics on what it finds fail.
func survives(w *World) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the engine does not open")
		}
	}()
	return w.Survives()
}

// changeLast changes the last message that was stored.
func changeLast(events []event, change func(stored) stored) []event {
	events = slices.Clone(events)
	for i := len(events) - 1; i >= 0; i-- {
		if s, ok := events[i].(stored); ok {
			events[i] = change(s)
			break
		}
	}
	return events
}
