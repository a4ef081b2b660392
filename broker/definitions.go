package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Definitions in the engine. A key is a kind, a slash and names; names contain no
// space, so a space joins them. A value is JSON whose member "v" is the version of its
// kind:
//
//	exchange/<exchange>               {"v":1,"kind":"direct"|"fanout"|"topic"}
//	binding/<queue> <exchange> <key>  {"v":1}
//	key/<client>                      {"v":1,"key":"<base64>","by":"<identity>"}
//	keyentry/<suite> <owner>          {"v":1,"entry":"<base64>","issuer":"…","serial":1,"hash":"<base64>"}
//	keyleaf/<sequence, hex>           {"v":1,"leaf":"…"}
//	chain/<sha256, hex>               {"v":1,"chain":"<base64>","by":"<identity>"}
const (
	exchangePrefix = "exchange/"
	bindingPrefix  = "binding/"
	keyPrefix      = "key/"
	entryPrefix    = "keyentry/"
	leafPrefix     = "keyleaf/"
	chainPrefix    = "chain/"

	definitionVersion = 1
)

// bindingValue is the value of every binding of this version.
const bindingValue = `{"v":1}`

type definitionHeader struct {
	Version int `json:"v"`
}

type exchangeDefinition struct {
	Version int          `json:"v"`
	Kind    ExchangeKind `json:"kind"`
}

type keyDefinition struct {
	Version int    `json:"v"`
	Key     []byte `json:"key"`
	By      string `json:"by"`
}

func defineExchange(name string, kind ExchangeKind) engine.Definition {
	return engine.Definition{Key: exchangePrefix + name, Value: encode(exchangeDefinition{definitionVersion, kind})}
}

func defineBinding(b Binding) engine.Definition {
	return engine.Definition{Key: bindingKey(b), Value: []byte(bindingValue)}
}

func defineKey(client string, key []byte, by string) engine.Definition {
	return engine.Definition{Key: keyPrefix + client, Value: encode(keyDefinition{definitionVersion, key, by})}
}

func bindingKey(b Binding) string {
	return bindingPrefix + b.Queue + " " + b.Exchange + " " + b.Key
}

func encode(v any) []byte {
	value, err := json.Marshal(v)
	if err != nil {
		panic("broker: internal error: " + err.Error()) // the types above cannot fail
	}
	return value
}

// decode reads a value into v, which has a definitionHeader's member, and refuses any
// other version and any unknown member: a definition that is understood by half, a
// grant above all, would be worse than none.
func decode(d engine.Definition, v any) error {
	var h definitionHeader
	if err := json.Unmarshal(d.Value, &h); err != nil {
		return fmt.Errorf("definition %q is damaged: %w", d.Key, err)
	}
	switch {
	case h.Version > definitionVersion:
		return fmt.Errorf("definition %q has version %d, this program reads up to %d: it was written by a newer one",
			d.Key, h.Version, definitionVersion)
	case h.Version < 1:
		return fmt.Errorf("definition %q is damaged: it has no version", d.Key)
	}
	dec := json.NewDecoder(bytes.NewReader(d.Value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("definition %q is damaged: %w", d.Key, err)
	}
	return nil
}

func errDamaged(d engine.Definition, why string) error {
	return fmt.Errorf("definition %q is damaged: %s", d.Key, why)
}

// stored is what the definitions of an engine say.
type stored struct {
	topo *topology
	keys map[string][]byte
	// entries are the current entries of the key directory, leaves its log in order.
	entries map[slot]*logged
	leaves  []storedLeaf
	chains  map[[32]byte]storedChain
	// dangling are bindings whose queue or exchange does not exist. A crash between the
	// steps of a deletion can leave them, and so can an engine that lost a queue.
	dangling []Binding
}

// readDefinitions understands all of batch or nothing. queueExists is asked once per
// queue that has a binding.
func readDefinitions(batch []engine.Definition, queueExists func(string) bool) (*stored, error) {
	s := &stored{topo: newTopology(), keys: make(map[string][]byte), entries: make(map[slot]*logged),
		chains: make(map[[32]byte]storedChain)}
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
		if err := decode(d, &v); err != nil {
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
			if err := decode(d, new(definitionHeader)); err != nil {
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
	if client, ok := strings.CutPrefix(d.Key, keyPrefix); ok {
		var v keyDefinition
		if err := decode(d, &v); err != nil {
			return err
		}
		s.keys[client] = v.Key
		return nil
	}
	if rest, ok := strings.CutPrefix(d.Key, entryPrefix); ok {
		at, l, err := readEntry(rest, d)
		s.entries[at] = l
		return err
	}
	if rest, ok := strings.CutPrefix(d.Key, leafPrefix); ok {
		l, err := readLeaf(rest, d)
		s.leaves = append(s.leaves, l)
		return err
	}
	if rest, ok := strings.CutPrefix(d.Key, chainPrefix); ok {
		sum, c, err := readChain(rest, d)
		s.chains[sum] = c
		return err
	}
	return fmt.Errorf("definition %q is of an unknown kind: it was written by a newer program", d.Key)
}

// load makes what the engine has stored the broker's truth. It is what start-up does,
// and also what happens when the engine refused a definition after the fact. The caller
// holds mu, or is New.
func (b *Broker) load() error {
	queues, err := b.engine.Queues()
	if err != nil {
		return err
	}
	exists := make(map[string]bool, len(queues))
	for i := range queues {
		exists[queues[i].Name] = true
	}
	s, err := readDefinitions(b.engine.Definitions(), func(queue string) bool { return exists[queue] })
	if err != nil {
		return err
	}
	if b.directory == nil && b.proving != nil { // afterwards it follows the store by itself
		d, missing, err := newDirectory(b.proving, s)
		if err != nil {
			return err
		}
		b.directory = d
		defer b.complete(missing)
	}
	if b.chains == nil { // the same
		b.chains = newChains(s.chains)
	}
	b.topo = s.topo
	b.table.Store(s.topo.table())
	b.keys.Store(freeze(s.keys))
	b.queues.reset()
	b.sealed.reset()
	for _, q := range queues {
		b.queues.add(q.Name)
		b.sealed.set(q.Name, q.Options)
	}
	b.dropDangling(s.dangling)
	b.metrics.setDefinitions(b.counts())
	return nil
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
