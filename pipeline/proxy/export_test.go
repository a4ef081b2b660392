package proxy

import "github.com/sealmq/sealmq/pipeline"

// AddRegistration hands an item to the registrar, as a submission does.
func (p *Proxy) AddRegistration(it pipeline.Item) { p.register.add(it) }

// Recheck looks at the main server's key again, as happens every few seconds.
func (p *Proxy) Recheck() { p.keys.recheck() }

// Pending is how many messages wait for the queue in memory.
func (p *Proxy) Pending() int {
	p.enqueuer.mu.Lock()
	defer p.enqueuer.mu.Unlock()
	return p.enqueuer.waiting
}
