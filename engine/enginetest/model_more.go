package enginetest

import (
	"github.com/sealmq/sealmq"
)

// Peek implements broker.Peeker.
func (m *Model) Peek(name string, n int) ([]sealmq.Delivery, error) {
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err != nil {
		return nil, err
	}
	list := []sealmq.Delivery{}
	for _, e := range q.front(m.now()) {
		if len(list) < n && e.synced {
			list = append(list, q.delivery(e))
		}
	}
	return list, nil
}

// Move implements broker.Mover.
func (m *Model) Move(from, to string, n int, done func(moved int, err error)) {
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

// Find implements broker.Finder.
func (m *Model) Find(id string) (sealmq.Message, bool) {
	m.begin()
	defer m.end()
	for _, name := range m.state.names() {
		for _, e := range m.state.queues[name].entries {
			if e.byID && e.message.ID == id {
				return *e.message, true
			}
		}
	}
	return sealmq.Message{}, false
}
