package broker

import (
	"errors"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// sealedQueue is a queue that takes only messages of some suites.
type sealedQueue struct {
	name   string
	suites []string
}

// strict returns those of the queues that do not take every body.
func (t *topology) strict(queues []string) (list []sealedQueue) {
	if t.sealed.Load() == 0 {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, name := range queues {
		if suites := t.queues[name].suites; suites != nil {
			list = append(list, sealedQueue{name, suites})
		}
	}
	return list
}

// checkSealed refuses a body that one of the queues does not take.
func checkSealed(queues []sealedQueue, body []byte) error {
	info, err := seal.Inspect(body, ciphermq.Suites{})
	for _, q := range queues {
		switch {
		case errors.Is(err, seal.ErrNotSealed):
			return q.refuse("this one is not sealed")
		case err != nil:
			return q.refuse(err.Error())
		case !q.takes(info.Suites):
			return q.refuse("this one is of " + string(info.Suites[0]))
		}
	}
	return nil
}

// takes reports whether one of the suites that an envelope may be of is allowed.
func (q sealedQueue) takes(suites []seal.Suite) bool {
	return slices.ContainsFunc(suites, func(s seal.Suite) bool { return slices.Contains(q.suites, string(s)) })
}

func (q sealedQueue) refuse(why string) error {
	return &sealmq.Error{Code: sealmq.NotSealed,
		Message: "queue '" + q.name + "' takes sealed messages only, of " + strings.Join(q.suites, ", ") + ": " + why}
}

// checkSuites refuses a queue that could take nothing.
func checkSuites(o sealmq.QueueOptions) error {
	for _, name := range o.Suites() {
		if !slices.Contains(seal.Suites(ciphermq.Suites{}), seal.Suite(name)) {
			return &sealmq.Error{Code: sealmq.BadArgument, Message: "sealed names a suite that is not known here: " + name}
		}
	}
	return nil
}
