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
//	exchange/<exchange>               {"v":1,"kind":"direct"|"fanout"|"topic"}
//	binding/<queue> <exchange> <key>  {"v":1}
//
// Those of the key directory are package keylog's.
const (
	exchangePrefix = "exchange/"
	bindingPrefix  = "binding/"
)

// bindingValue is the value of every binding of this version.
const bindingValue = `{"v":1}`

type bindingDefinition struct {
	Version int `json:"v"`
}

type exchangeDefinition struct {
	Version int          `json:"v"`
	Kind    ExchangeKind `json:"kind"`
}

func defineExchange(name string, kind ExchangeKind) engine.Definition {
	return engine.Definition{Key: exchangePrefix + name, Value: definition.Encode(exchangeDefinition{definition.Version, kind})}
}

func defineBinding(b Binding) engine.Definition {
	return engine.Definition{Key: bindingKey(b), Value: []byte(bindingValue)}
}

func bindingKey(b Binding) string {
	return bindingPrefix + b.Queue + " " + b.Exchange + " " + b.Key
}

// stored is what the definitions of an engine say.
type stored struct {
	topo *topology
	// dangling are bindings whose queue or exchange does not exist. A crash between the
	// steps of a deletion can leave them, and so can an engine that lost a queue.
	dangling []Binding
	queues   []engine.QueueInfo
}

// readDefinitions understands all of batch or nothing. queueExists is asked once per
// queue that has a binding.
func readDefinitions(batch []engine.Definition, queueExists func(string) bool) (*stored, error) {
	s := &stored{topo: newTopology()}
	var bindings []Binding
	var errs []error
	for _, d := range batch {
		if err := s.read(d, &bindings); err != nil {
			errs = append(errs, err)
			if len(errs) == maxReportedErrors {
				break
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	exists := make(map[string]bool)
	for _, b := range bindings {
		ok, asked := exists[b.Queue]
		if !asked {
			ok = queueExists(b.Queue)
			exists[b.Queue] = ok
		}
		if !ok || s.topo.exchanges[b.Exchange] == nil {
			s.dangling = append(s.dangling, b)
			continue
		}
		s.topo.add(b)
	}
	return s, nil
}

// maxReportedErrors keeps an error about a wholly foreign store readable.
const maxReportedErrors = 10

func (s *stored) read(d engine.Definition, bindings *[]Binding) error {
	if name, ok := strings.CutPrefix(d.Key, exchangePrefix); ok {
		var v exchangeDefinition
		if err := definition.Decode(d.Key, d.Value, &v); err != nil {
			return err
		}
		if err := sealmq.CheckName("exchange", name); err != nil || !v.Kind.valid() {
			return fmt.Errorf("definition %q is damaged: no such exchange is possible", d.Key)
		}
		s.topo.exchanges[name] = &exchange{kind: v.Kind}
		return nil
	}
	if rest, ok := strings.CutPrefix(d.Key, bindingPrefix); ok {
		if string(d.Value) != bindingValue {
			if err := definition.Decode(d.Key, d.Value, new(bindingDefinition)); err != nil {
				return err
			}
		}
		names := strings.Split(rest, " ")
		if len(names) != 3 {
			return fmt.Errorf("definition %q is damaged: not three names", d.Key)
		}
		*bindings = append(*bindings, Binding{Queue: names[0], Exchange: names[1], Key: names[2]})
		return nil
	}
	if keylog.Owns(d.Key) {
		return nil
	}
	return fmt.Errorf("definition %q is of an unknown kind: it was written by a newer program", d.Key)
}

// readTopology reads what the engine has stored.
func (b *Broker) readTopology(definitions []engine.Definition) (*stored, error) {
	queues, err := b.engine.Queues()
	if err != nil {
		return nil, err
	}
	exists := make(map[string]bool, len(queues))
	for i := range queues {
		exists[queues[i].Name] = true
	}
	s, err := readDefinitions(definitions, func(queue string) bool { return exists[queue] })
	if err != nil {
		return nil, err
	}
	s.queues = queues
	return s, nil
}

// apply makes what the engine has stored the broker's truth. It is what start-up does,
// and also what happens when the engine refused a definition after the fact. The caller
// holds mu, or is New.
func (b *Broker) apply(s *stored) {
	b.topo = s.topo
	b.table.Store(s.topo.table())
	b.queues.reset()
	b.sealed.reset()
	for _, q := range s.queues {
		b.queues.add(q.Name)
		b.sealed.set(q.Name, q.Options)
	}
	b.dropDangling(s.dangling)
}

// dropDangling also removes the definitions: otherwise a queue that is declared later
// under the same name would find itself bound after the next start.
func (b *Broker) dropDangling(dangling []Binding) {
	if len(dangling) == 0 {
		return
	}
	batch := make([]engine.Definition, len(dangling))
	for i, d := range dangling {
		batch[i].Key = bindingKey(d)
		if i < maxReportedErrors {
			b.log.Warn("binding without its queue or exchange removed",
				"queue", d.Queue, "exchange", d.Exchange, "key", d.Key)
		}
	}
	b.log.Warn("bindings without their queue or exchange removed", "bindings", len(dangling))
	b.metrics.dangling.Add(float64(len(dangling)))
	b.engine.Define(batch, func(err error) {
		if err != nil {
			b.log.Error("cannot remove bindings without their queue or exchange", "err", err)
		}
	})
}
