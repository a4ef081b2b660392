package enginetest

import (
	"slices"

	"github.com/sealmq/sealmq"
)

// Peek implements engine.Peeker.
func (m *Model) Peek(name string, from uint64, n int) ([]sealmq.Delivery, error) {
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err != nil {
		return nil, err
	}
	list := []sealmq.Delivery{}
	for _, e := range q.front(m.now()) {
		if len(list) < n && e.synced && e.seq >= from {
			list = append(list, q.delivery(e))
		}
	}
	return list, nil
}

// Move implements engine.Mover.
func (m *Model) Move(from, to string, n int, done func(moved int, err error)) {
	m.move(from, to, n, func(*entry) bool { return true }, done)
}

// MoveMessages implements engine.Mover.
func (m *Model) MoveMessages(from, to string, ids []string, done func(moved int, err error)) {
	m.move(from, to, 0, func(e *entry) bool { return e.byID && slices.Contains(ids, e.message.ID) }, done)
}

// move moves up to n messages (0: all) for which wanted is true.
func (m *Model) move(from, to string, n int, wanted func(*entry) bool, done func(moved int, err error)) {
	m.begin()
	defer m.end()
	source, err := m.lookUp(from)
	target := source
	if err == nil {
		target, err = m.lookUp(to)
	}
	if err != nil {
		m.answer(func(error) { done(0, err) })
		return
	}
	count := 0
	for _, e := range source.front(m.now()) {
		if n > 0 && count == n || !e.synced {
			break
		}
		if !wanted(e) {
			continue
		}
		victims, code := target.fits(e.message, m.now())
		if code != "" {
			target.totals.Refused++
			err = &sealmq.Error{Code: code, Message: "refused by the queue"}
			break
		}
		m.drop(target, victims)
		m.write(moved{from: source.name, to: target.name, seq: e.seq, at: m.now()})
		count++
	}
	m.notify()
	m.answer(func(lost error) {
		if lost != nil {
			done(0, lost)
			return
		}
		done(count, err)
	})
}

// ChangeQueue implements engine.Changer.
func (m *Model) ChangeQueue(name string, o sealmq.QueueOptions, done func(error)) {
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err == nil {
		err = o.Validate()
	}
	if err != nil {
		m.refuse(func() { done(err) })
		return
	}
	m.write(redefined{q.name, o.Normalize()})
	m.answer(done)
}

// PauseQueue implements engine.Pauser.
func (m *Model) PauseQueue(name string, stop bool, done func(error)) {
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err != nil {
		m.refuse(func() { done(err) })
		return
	}
	m.write(paused{q.name, stop})
	m.notify()
	m.answer(done)
}

// Find implements engine.Finder.
func (m *Model) Find(id, publisher string) (found sealmq.Message, ok bool) {
	m.begin()
	defer m.end()
	for _, name := range m.state.names() {
		for _, e := range m.state.queues[name].entries {
			if e.byID && e.message.ID == id && (!ok || e.message.Publisher == publisher) {
				found, ok = *e.message, true
			}
		}
	}
	return found, ok
}
