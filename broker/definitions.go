package broker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/definition"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// Definitions in the engine. A key is a kind, a slash and names; names contain no
// space, so a space joins them. A value is JSON whose member "v" is the version of its
// kind:
//
//	exchange/<exchange>               {"v":1,"kind":"direct"|"fanout"|"topic"}, or
//	                                  {"v":2,"kind":…,"owner":{"id","issuer"}} if it has an owner
//	binding/<queue> <exchange> <key>  {"v":1}
//
// Those of the key directory are package keylog's.
const (
	exchangePrefix = "exchange/"
	bindingPrefix  = "binding/"
)

// bindingValue is the value of every binding of this version.
const bindingValue = `{"v":1}`

type exchangeDefinition struct {
	Version int          `json:"v"`
	Kind    ExchangeKind `json:"kind"`
	Owner   sealmq.Owner `json:"owner,omitzero"`
}

// ownedVersion is the version of an exchange that has an owner.
const ownedVersion = 2

func defineExchange(name string, kind ExchangeKind, owner sealmq.Owner) engine.Definition {
	d := exchangeDefinition{definition.Version, kind, owner}
	if owner != (sealmq.Owner{}) {
		d.Version = ownedVersion
	}
	return engine.Definition{Key: exchangePrefix + name, Value: definition.Encode(d)}
}

func defineBinding(b Binding) engine.Definition {
	return engine.Definition{Key: bindingKey(b), Value: []byte(bindingValue)}
}

// undefine removes bindings.
func undefine(list []Binding) []engine.Definition {
	batch := make([]engine.Definition, len(list))
	for i, b := range list {
		batch[i].Key = bindingKey(b)
	}
	return batch
}

func bindingKey(b Binding) string {
	return bindingPrefix + b.Queue + " " + b.Exchange + " " + b.Key
}

// read reads queues and definitions. It understands all of batch or returns an error. dangling
// are bindings whose queue or exchange does not exist. A crash between the steps of a deletion
// can leave them, and so can an engine that lost a queue.
func (t *topology) read(queues []engine.QueueInfo, batch []engine.Definition) (dangling []Binding, err error) {
	for i := range queues {
		t.addQueue(queues[i].Name, &queues[i].Options)
	}
	var bindings []Binding
	var errs []error
	for _, d := range batch {
		if bindings, err = t.readDefinition(d, bindings); err != nil {
			if errs = append(errs, err); len(errs) == maxReportedErrors {
				break
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, b := range bindings {
		if t.hasQueue(b.Queue) && t.exchanges[b.Exchange] != nil {
			t.bind(b)
		} else {
			dangling = append(dangling, b)
		}
	}
	return dangling, nil
}

// maxReportedErrors keeps an error about a wholly foreign store readable.
const maxReportedErrors = 10

// readDefinition adds an exchange, or appends to bindings one that is made when all exchanges
// are known.
func (t *topology) readDefinition(d engine.Definition, bindings []Binding) ([]Binding, error) {
	if name, ok := strings.CutPrefix(d.Key, exchangePrefix); ok {
		var v exchangeDefinition
		if err := definition.DecodeUpTo(ownedVersion, d.Key, d.Value, &v); err != nil {
			return bindings, err
		}
		if err := sealmq.CheckName("exchange", name); err != nil || !v.Kind.valid() {
			return bindings, fmt.Errorf("definition %q is damaged: no such exchange is possible", d.Key)
		}
		t.addExchange(name, v.Kind, v.Owner)
		return bindings, nil
	}
	if rest, ok := strings.CutPrefix(d.Key, bindingPrefix); ok {
		if string(d.Value) != bindingValue {
			var v struct {
				Version int `json:"v"`
			}
			if err := definition.Decode(d.Key, d.Value, &v); err != nil {
				return bindings, err
			}
		}
		names := strings.Split(rest, " ")
		if len(names) != 3 {
			return bindings, fmt.Errorf("definition %q is damaged: not three names", d.Key)
		}
		return append(bindings, Binding{Queue: names[0], Exchange: names[1], Key: names[2]}), nil
	}
	if keylog.Owns(d.Key) {
		return bindings, nil
	}
	return bindings, fmt.Errorf("definition %q is of an unknown kind: it was written by a newer program", d.Key)
}

// dropDangling also removes the definitions: otherwise a queue that is declared later
// under the same name would find itself bound after the next start.
func (b *Broker) dropDangling(dangling []Binding) {
	if len(dangling) == 0 {
		return
	}
	for _, d := range dangling[:min(len(dangling), maxReportedErrors)] {
		b.log.Warn("binding without its queue or exchange removed", "queue", d.Queue, "exchange", d.Exchange, "key", d.Key)
	}
	b.log.Warn("bindings without their queue or exchange removed", "bindings", len(dangling))
	b.metrics.dangling.Add(float64(len(dangling)))
	b.engine.Define(undefine(dangling), func(err error) {
		if err != nil {
			b.log.Error("cannot remove bindings without their queue or exchange", "err", err)
		}
	})
}
