package proxy

import "github.com/sealmq/sealmq/pipeline"

// AddRegistration hands an item to the registrar, as a submission does.
func (p *Proxy) AddRegistration(it pipeline.Item) { p.register.add(it) }
