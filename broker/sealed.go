package broker

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// sealedQueues knows which queues take ciphertext only. Publishes ask it without a lock;
// while there is no such queue the question costs one load.
type sealedQueues struct {
	rules atomic.Pointer[frozen[*sealedRule]]
	mu    sync.Mutex // of changes; done functions may take it
}

// sealedRule is what one queue takes. Its address tells a queue from a later one of the
// same name.
type sealedRule struct{ suites []string }

func (s *sealedQueues) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules.Store(nil)
}

// set takes the options of a queue and returns its rule, nil if it takes everything.
func (s *sealedQueues) set(queue string, o sealmq.QueueOptions) *sealedRule {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Sealed == "" {
		s.rules.Store(s.rules.Load().without(queue))
		return nil
	}
	r := &sealedRule{suites: o.Suites()}
	s.rules.Store(s.rules.Load().with(queue, r))
	return r
}

// of is the rule of a queue, nil if it has none.
func (s *sealedQueues) of(queue string) *sealedRule {
	r, _ := s.rules.Load().get(queue)
	return r
}

// remove forgets a rule, unless the name has another one by now.
func (s *sealedQueues) remove(queue string, r *sealedRule) {
	if r == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of(queue) == r {
		s.rules.Store(s.rules.Load().without(queue))
	}
}

// check refuses a body that one of the queues does not take. It reads the body once, and
// only if one of them asks.
func (s *sealedQueues) check(queues []string, body []byte) error {
	rules := s.rules.Load()
	if rules.len() == 0 {
		return nil
	}
	var info *seal.Info
	var err error
	for _, queue := range queues {
		rule, ok := rules.get(queue)
		if !ok {
			continue
		}
		if info == nil && err == nil {
			info, err = seal.Inspect(body)
		}
		if errors.Is(err, seal.ErrNotSealed) {
			return rule.refuse(queue, "this one is not sealed")
		}
		if err != nil {
			return rule.refuse(queue, err.Error())
		}
		if !rule.takes(info.Suites) {
			return rule.refuse(queue, "this one is of "+string(info.Suites[0]))
		}
	}
	return nil
}

// takes reports whether one of the suites that an envelope may be of is allowed.
func (r *sealedRule) takes(suites []seal.Suite) bool {
	for _, have := range suites {
		for _, want := range r.suites {
			if string(have) == want {
				return true
			}
		}
	}
	return false
}

func (r *sealedRule) refuse(queue, why string) error {
	return &sealmq.Error{Code: sealmq.NotSealed,
		Message: "queue '" + queue + "' takes sealed messages only, of " + strings.Join(r.suites, ", ") + ": " + why}
}

// checkSuites refuses a queue that could take nothing.
func checkSuites(o sealmq.QueueOptions) error {
	for _, name := range o.Suites() {
		known := false
		for _, s := range seal.Suites() {
			known = known || string(s) == name
		}
		if !known {
			return &sealmq.Error{Code: sealmq.BadArgument, Message: "sealed names a suite that is not known here: " + name}
		}
	}
	return nil
}
